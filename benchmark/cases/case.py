"""Four-option questions about images: the file between the benchmark's making and its scoring.

    python -m benchmark.cases build --manifest M --split test --out cases.jsonl
    python -m benchmark.cases build --manifest M --options paper --table14 --out cases.jsonl
    python -m benchmark.cases validate cases.jsonl --pretraining M

`build` draws cases from a manifest and writes a data card beside them; training questions come from the same command with
`--split train`. `validate` checks a file and names the line and field that is wrong, and finds images that the pretraining saw.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from mgll.formats import FormatError, numbered_rows, write_rows
from mgll.images.files import image_sha256
from mgll.manifest.classed_row import CONTEXT, ClassedRow, classed_header, context_of
from mgll.manifest.records import patient_of
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS
from mgll.vocabulary.questions import LETTERS

SCHEMA = "mgll.cases/1"


class Case(ClassedRow):
    """One question.

    Attributes:
        id: unique within the file.
        image: path of the image; in a file relative to the file's folder (or absolute), resolved on reading.
        image_sha256: SHA-256 of the image file's bytes, hex.
        group: patient or eye; intervals are clustered by it.
        source: data set the image comes from.
        question: the wording alone (`mgll.vocabulary.questions.question_text` adds options and instruction).
        options: four different disease names in stored order.
        option_codes: their class codes, in the same order.
        answer: index of the true option, 0 to 3.
        code: class code of the true option.
        labels: all class codes that the image is labelled with (empty where unknown).
    """

    id: str = Field(min_length=1)
    image: str = Field(min_length=1)
    image_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    group: str = Field(min_length=1)
    source: str
    question: str = Field(min_length=1)
    options: tuple[str, str, str, str]
    option_codes: tuple[str, str, str, str]
    answer: int = Field(ge=0, le=3, strict=True)
    code: str
    labels: tuple[str, ...] = ()

    @field_validator("options")
    @classmethod
    def _options_differ(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        return _four_different(options, "options")

    @field_validator("option_codes")
    @classmethod
    def _codes_match_options(cls, codes: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        _four_different(codes, "codes")
        table = _table_of(info)
        for code, option in zip(codes, info.data.get("options", ()), strict=False):
            if code in table.classes and option.strip().lower() not in table.classes[code].synonyms:
                raise ValueError(f"{code!r} is called {table.classes[code].name!r}, the option says {option!r}")
            if code not in table.classes and option.strip().lower() in table.synonyms:
                known = table.synonyms[option.strip().lower()]
                raise ValueError(f"option {option!r} has code {known!r}, found {code!r}")
        return codes

    @field_validator("code")
    @classmethod
    def _code_is_the_answers(cls, code: str, info: ValidationInfo) -> str:
        if {"option_codes", "answer"} <= info.data.keys():
            expected = info.data["option_codes"][info.data["answer"]]
            if code != expected:
                raise ValueError(f"option {info.data['answer']} (the answer) has code {expected!r}")
        return code

    @field_validator("labels")
    @classmethod
    def _answer_holds(cls, labels: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        code, table = info.data.get("code"), _table_of(info)
        known = table.classes.keys()
        if labels and code in known and known >= set(labels) and code not in table.true(labels):
            raise ValueError(f"the answer {code!r} does not hold for an image with these labels")
        return labels

    @property
    def ambiguous(self) -> frozenset[str]:
        """Distractors that hold or may hold for the image, by its labels or else by the answer alone."""
        labels = self.labels or (self.code,)
        if not self.table.classes.keys() >= set(labels):
            return frozenset()
        return self.table.possible(labels) & set(self.option_codes) - {self.code}


def write_cases(path: str | os.PathLike[str], cases: Iterable[Case], **header: object) -> None:
    """Write cases atomically. Image paths are taken as they stand and stored relative to the file's folder."""
    folder = Path(path).parent.resolve()
    cases, header = classed_header(cases, header)
    write_rows(path, SCHEMA, (_with_image(case, _relative(case.image, folder)) for case in cases), **header)


def read_cases(path: str | os.PathLike[str]) -> list[Case]:
    """Read and check a file of cases; image paths come back resolved against the file's folder.

    Images are not opened here; `check_images` does that.

    Raises:
        FormatError: naming line and field of the first wrong case, or that there is none.
    """
    return [case for _, case in _numbered_cases(path)]


def check_images(path: str | os.PathLike[str]) -> list[FormatError]:
    """Return one error for every case whose image is missing, unreadable, or not the one that was asked about.

    Raises:
        FormatError: as `read_cases`.
    """
    hashes: dict[str, str] = {}
    errors = []
    for line, case in _numbered_cases(path):
        try:
            if case.image not in hashes:
                # Not a pipe or a device: reading one may never end.
                if Path(case.image).exists() and not Path(case.image).is_file():
                    raise ValueError("not a file")
                hashes[case.image] = image_sha256(case.image)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            errors.append(FormatError(path, line, f"field image: {case.image!r} can't be read: {reason}"))
            continue
        if hashes[case.image] != case.image_sha256:
            found = f"field image_sha256: {case.image!r} has changed: expected {case.image_sha256}"
            errors.append(FormatError(path, line, f"{found}, found {hashes[case.image]}"))
    return errors


def describe(cases: list[Case]) -> str:
    """Counts by class, source, answer position and images, as text."""
    images = Counter(case.image for case in cases)
    lines = [
        f"{len(cases)} cases on {len(images)} images of {len({patient_of(case.source, case.group) for case in cases})} groups,"
        f" at most {max(images.values(), default=0)} on one image"
    ]
    for title, count in (
        ("answers", Counter(case.code for case in cases)),
        ("answer positions", Counter(LETTERS[case.answer] for case in cases)),
        ("sources", Counter(case.source for case in cases)),
    ):
        lines.append(f"{title}: " + ", ".join(f"{name or '-'} {n}" for name, n in count.most_common()))
    ambiguous = sum(bool(case.ambiguous) for case in cases)
    lines.append(f"ambiguous: {ambiguous} cases have a distractor that holds or may hold for the image")
    return "\n".join(lines)


def position_test(cases: Sequence[Case]) -> float:
    """P-value of the chi-square test that the answer stands at A to D equally often."""
    # here, because scipy takes a moment to import
    from scipy.stats import chisquare

    counts = Counter(case.answer for case in cases)
    return float(chisquare([counts[position] for position in range(len(LETTERS))]).pvalue)


def _numbered_cases(path: str | os.PathLike[str]) -> Iterator[tuple[int, Case]]:
    folder = Path(path).parent
    first_line: dict[str, int] = {}
    for line, case in numbered_rows(path, SCHEMA, Case, context_of(path, SCHEMA)):
        first = first_line.setdefault(case.id, line)
        if first != line:
            raise FormatError(path, line, f"field id: {case.id!r} stands in line {first} too; ids must differ")
        yield line, _with_image(case, str(folder / case.image))
    if not first_line:
        raise FormatError(path, None, "no case")


def _table_of(info: ValidationInfo) -> ClassTable:
    return (info.context or {}).get(CONTEXT) or FUNDUS


def _with_image(case: Case, image: str) -> Case:
    return case.model_copy(update={"image": image})


def _relative(image: str, folder: Path) -> str:
    # Only folders are resolved: a relative path must survive symbolic links on the way, and an image that is one itself
    # keeps its name.
    path = Path(image)
    return Path(os.path.relpath(path.parent.resolve() / path.name, folder)).as_posix()


def _four_different(texts: tuple[str, ...], what: str) -> tuple[str, ...]:
    seen = [text.strip().lower() for text in texts]
    if not all(seen):
        raise ValueError(f"empty text among the {what}")
    equal = [text for text, key in zip(texts, seen, strict=True) if seen.count(key) > 1]
    if equal:
        raise ValueError(f"two equal {what}: {equal[0]!r}")
    return texts
