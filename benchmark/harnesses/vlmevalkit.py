"""Cases as a TSV that VLMEvalKit reads as a custom multiple-choice data set.

    python -m benchmark.harnesses.vlmevalkit cases.jsonl --out $LMUData/Fundus2233.tsv
    python run.py --data Fundus2233 --model ...          # in VLMEvalKit; its data set is named like the file

Its `category` is the class of the answer and its `l2-category` the data set, so it prints both accuracies. It words the prompt in
its own way and scores generated text only: its numbers are not to be mixed with those of `run_mcq`.
"""

import base64
import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from PIL import ExifTags, Image, UnidentifiedImageError

from benchmark.cases.case import SCHEMA, Case, check_images, read_cases
from mgll.ending import ends_in_one_line
from mgll.files import atomic_path
from mgll.flags import CommandParser
from mgll.formats import read_header
from mgll.images.preprocessing import open_image
from mgll.vocabulary.questions import LETTERS

TEXTS = ("id", "question", *LETTERS, "answer", "category", "l2-category", "split")
#: Parts of a name by which VLMEvalKit takes a data set for another kind and scores it differently.
TAKEN_NAMES = ("mmbench", "ccbench", "circular", "mmcr", "openended", "mmmu", "mmt", "mmsci", "mmvp")


def write_tsv(
    cases: str | os.PathLike[str], out: str | os.PathLike[str], images: Literal["embedded", "paths"] = "embedded"
) -> int:
    """Write the TSV atomically and return the number of its questions.

    Args:
        cases: file of cases.
        out: file to write; its name without `.tsv` is the data set's.
        images: `embedded` as base64 (once for each image; one file to pass on) or absolute `paths`.

    Raises:
        FormatError: if the cases or their images are wrong.
        ValueError: if VLMEvalKit would read something else than what is written.
    """
    name = Path(out).stem
    if taken := [part for part in TAKEN_NAMES if part in name.lower()]:
        raise ValueError(
            f"VLMEvalKit scores a data set with {taken[0]!r} in its name in another way; call {name!r} otherwise"
        )
    asked = read_cases(cases)
    if errors := check_images(cases):
        raise errors[0]
    rows = [_texts(case, str(read_header(cases, SCHEMA).get("split", "all"))) for case in asked]
    pictures = _embedded(asked) if images == "embedded" else (_path(case) for case in asked)
    with atomic_path(out) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerow(["index", "image" if images == "embedded" else "image_path", *TEXTS])
            for index, (picture, row) in enumerate(zip(pictures, rows, strict=True)):
                writer.writerow([index, picture, *row])
        _check_reading(temporary, rows)
    return len(rows)


def _texts(case: Case, split: str) -> tuple[str, ...]:
    return (case.id, case.question, *case.options, LETTERS[case.answer], case.code, case.source or "not stated", split)


def _embedded(cases: Sequence[Case]) -> Iterator[str]:
    """Base64 of each case's image; where an earlier case has the same one, that case's index, which stands for it there."""
    first: dict[str, int] = {}
    for index, case in enumerate(cases):
        if first.setdefault(case.image_sha256, index) != index:
            yield str(first[case.image_sha256])
            continue
        if _read_alike(case.image):
            content = Path(case.image).read_bytes()
        else:
            buffer = io.BytesIO()
            open_image(case.image).save(buffer, "PNG")
            content = buffer.getvalue()
        yield base64.b64encode(content).decode("ascii")


def _path(case: Case) -> str:
    if not _read_alike(case.image):
        raise ValueError(
            f"{case.image}: VLMEvalKit would see other pixels (orientation or colour mode); embed the images"
        )
    return str(Path(case.image).resolve())


def _read_alike(image: str) -> bool:
    """Whether plain Pillow, which knows nothing of orientation and 16 bits, sees what `open_image` sees."""
    try:
        with Image.open(image) as opened:
            return opened.mode in ("RGB", "L") and opened.getexif().get(ExifTags.Base.Orientation, 1) == 1
    except UnidentifiedImageError:  # an npz file, or a JPEG file of 12 bits
        return False


def _check_reading(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    """VLMEvalKit reads with pandas' defaults, to which `None` or `NA` is a missing option and `007` a number."""
    # here, because pandas takes a moment to import
    import pandas as pd

    table = pd.read_csv(path, sep="\t", usecols=list(TEXTS))
    for number, column in enumerate(TEXTS):
        for row, found in zip(rows, table[column], strict=True):
            if pd.isna(found) or str(found) != row[number]:
                raise ValueError(
                    f"case {row[0]!r}, {column}: VLMEvalKit would read {row[number]!r} as {found!r}; reword it"
                )


@ends_in_one_line
def _main(arguments: list[str] | None = None) -> int:
    parser = CommandParser(
        prog="python -m benchmark.harnesses.vlmevalkit",
        description=__doc__,
    )
    parser.add_argument("cases", help="file of cases")
    parser.add_argument("--out", required=True, help="TSV to write; VLMEvalKit looks for it in $LMUData")
    parser.add_argument(
        "--images",
        choices=["embedded", "paths"],
        default="embedded",
        help="images inside the table (default), or beside it",
    )
    options = parser.parse_args(arguments)
    count = write_tsv(options.cases, options.out, options.images)
    print(f"{options.out}: {count} questions")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
