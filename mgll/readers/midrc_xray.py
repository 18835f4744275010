"""Radiographs in DICOM (MIDRC, the paper's MGLL-Xray) -> 8-bit PNG files and a manifest.

Three levels (Table 11): `modality` (CR or DX), `study` and `series` (the two descriptions). Images are written as PNG, as in the
paper, because a DICOM file takes longer to decode in every epoch and carries names. Neither names nor dates are written; `group`
is the patient's id, hashed with a key or as it is, and images are split by it. Descriptions are free text: check them for names.

    python -m mgll.readers.midrc_xray FOLDER --out xray/manifest.jsonl --salt-file secret.txt
"""

import hashlib
import hmac
import json
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from mgll.ending import ends_in_one_line
from mgll.files import atomic_path, sha256, write_text
from mgll.flags import CommandParser
from mgll.images.files import ImageError
from mgll.machine_errors import stop_if_of_the_machine
from mgll.manifest.records import Record
from mgll.readers.cells import is_missing
from mgll.readers.dicom_pixels import grey_pixels
from mgll.readers.splits import SHARES, parse_shares, split_of_group
from mgll.readers.writing import Found, write_found
from mgll.vocabulary.label_texts import MODALITY, SERIES, STUDY

if TYPE_CHECKING:
    from pydicom import Dataset

MODALITIES = ("CR", "DX")
#: Names of the texts in a PNG file that say what it was made from, and what was noted then.
_ORIGIN, _NOTES = "mgll.origin", "mgll.notes"
#: Counts up whenever `grey_pixels` gives other greys for a file, so that PNG files of before are made anew.
_GREYS = 2


@dataclass(frozen=True)
class Conversion:
    """How DICOM files become images and records.

    Attributes:
        images: folder of the PNG files.
        salt: key of the hash of patients' ids; None keeps the ids.
        longest_side: larger images are scaled down to it, in pixels; None keeps them.
        seed: seed of the split by patient.
        shares: shares of train, val and test.
        source: name of the data set.
        licence: licence of the images.
    """

    images: str
    salt: bytes | None
    longest_side: int | None = None
    seed: int = 0
    shares: tuple[float, float, float] = SHARES
    source: str = "MIDRC"
    licence: str = ""

    def group(self, patient: str) -> str:
        """The patient's id, or its keyed hash (64 bits)."""
        return patient if self.salt is None else _keyed_hash(self.salt, patient)[:16]

    def image(self, uid: str) -> Path:
        """Where the image with this SOPInstanceUID is written."""
        name = _keyed_hash(self.salt or b"", uid)[:32]
        return Path(self.images) / name[:2] / f"{name}.png"

    def origin(self, file: str) -> str:
        """What the greys of an image follow from: the file with this SHA-256, and how it is converted. It tells no id."""
        return _keyed_hash(self.salt or b"", f"{_GREYS}/{self.longest_side}/{file}")[:32]

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height, in pixels, of the PNG file for an image of this width and height."""
        scale = min(1.0, (self.longest_side or width + height) / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))


def read_midrc_xray(folder: str | os.PathLike[str], conversion: Conversion, workers: int = 1) -> Found:
    """Convert every radiograph below `folder`; returns records, and how many files were left out or read otherwise, and why.

    PNG files that were made from the same bytes in the same way are kept, so that a stopped conversion can be continued; others are
    made anew. `left_out.txt` in the folder of the PNG files names every file that was left out.

    Raises:
        OSError, MemoryError: if the machine fails (a full disk, a file that may not be read): that is no damaged file.
    """
    paths = sorted(os.path.join(at, name) for at, _, names in os.walk(folder, onerror=_stop) for name in names)  # noqa: PTH118
    notes: Counter[str] = Counter()
    left_out: dict[str, str] = {}
    records: dict[str, Record] = {}
    source_of: dict[str, str] = {}
    with _mapping(workers) as mapped:
        for path, described in zip(paths, mapped(_describe, paths, conversion), strict=True):
            if isinstance(described, str):
                left_out[path] = described
            elif source_of.setdefault(described.image, path) != path:
                left_out[path] = "an image with this SOPInstanceUID came before"
            else:
                records[path] = described
        converted = mapped(_convert, [(path, record.image) for path, record in records.items()], conversion)
        for path, result in zip(list(records), tqdm(converted, total=len(records), unit="file"), strict=True):
            if isinstance(result, str):
                left_out[path] = result
                del records[path]
            else:
                notes.update(result)
    _list_left_out(Path(conversion.images) / "left_out.txt", left_out)
    made = {record.image for record in records.values()}
    if others := sum(str(image) not in made for image in Path(conversion.images).glob("??/*.png")):
        notes[f"not in the manifest, though a PNG file of an earlier run is still in {conversion.images}"] = others
    return list(records.values()), notes + Counter(left_out.values())


def _stop(error: OSError) -> None:
    """A folder that may not be listed is not an empty one."""
    raise error


def _list_left_out(path: Path, left_out: Mapping[str, str]) -> None:
    if left_out:
        write_text(path, "".join(f"{file}: {left_out[file]}\n" for file in sorted(left_out)))
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """A function like `map` over items, with the conversion as second argument: in this process or in several."""
    if workers <= 1:
        yield lambda function, items, conversion: (function(item, conversion) for item in items)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield lambda function, items, conversion: pool.map(function, items, repeat(conversion), chunksize=16)


def _describe(path: str, conversion: Conversion) -> Record | str:
    """The record of a file by its header, or the reason why the file is left out."""
    # optional, from the extra `dicom`
    from pydicom import dcmread

    try:
        if not Path(path).is_file():  # reading a pipe may never end
            return "a link to nowhere, or no regular file"
        header = dcmread(path, stop_before_pixels=True)
        if why := _unfit(header):
            return why
        group = conversion.group(str(header.PatientID).strip())
        return Record(
            image=str(conversion.image(str(header.SOPInstanceUID))),
            split=split_of_group(group, conversion.seed, conversion.shares),
            group=group,
            texts={
                level: (text,)
                for level, keyword in (
                    (MODALITY, "Modality"),
                    (STUDY, "StudyDescription"),
                    (SERIES, "SeriesDescription"),
                )
                if (text := " ".join(str(header.get(keyword) or "").split()))
            },
            source=conversion.source,
            licence=conversion.licence,
        )
    except Exception as error:
        return _damage(error, path)


def _convert(file: tuple[str, str], conversion: Conversion) -> Counter[str] | str:
    """Make the PNG file of a DICOM file; returns notes on how, or the reason why the file is left out."""
    # optional, from the extra `dicom`
    from pydicom import dcmread

    path, image = file[0], Path(file[1])
    origin = conversion.origin(sha256(path))
    found = _written(image)
    if found and found["origin"] == origin:
        return Counter(found["notes"])
    notes: Counter[str] = Counter()
    try:
        pixels = grey_pixels(dcmread(path), notes=notes)
    except Exception as error:
        return _damage(error, path)
    _write_png(pixels, image, conversion, {"origin": origin, "notes": list(notes)})
    if found is not None:
        notes["converted anew, because the DICOM file or the way to convert it has changed"] += 1
    return notes


def _damage(error: Exception, path: str) -> str:
    """The reason to leave a file out.

    Raises:
        OSError, MemoryError: `error` itself, if it is the machine's.
    """
    # optional, from the extra `dicom`
    from pydicom.errors import InvalidDicomError

    stop_if_of_the_machine(error, path)
    if isinstance(error, InvalidDicomError):
        return "not a DICOM file"
    return str(error) if isinstance(error, ImageError) else f"damaged DICOM file ({type(error).__name__})"


def _unfit(header: "Dataset") -> str | None:
    """The reason why a DICOM file is left out, judged by its header without the pixels; None if it is fit."""
    if header.get("Modality") not in MODALITIES:
        return f"modality {header.get('Modality') or 'missing'}, not {' or '.join(MODALITIES)}"
    if is_missing(str(header.get("PatientID") or "")):
        return "no PatientID, so the patient might be in two splits"
    if not header.get("SOPInstanceUID"):
        return "no SOPInstanceUID"
    if header.get("BurnedInAnnotation") == "YES":
        return "BurnedInAnnotation is YES: the pixels may show a name"
    return None


def _written(image: Path) -> dict[str, Any] | None:
    """What a PNG file says of its making: empty where it says nothing, None where there is no file."""
    if not image.is_file():
        return None
    try:
        with Image.open(image) as found:
            made: dict[str, Any] = {"origin": found.info[_ORIGIN], "notes": json.loads(found.info[_NOTES])}
            return made
    except Exception as error:
        stop_if_of_the_machine(error, image)
        return {}


def _write_png(pixels: np.ndarray, image: Path, conversion: Conversion, made: Mapping[str, Any]) -> None:
    grey, texts = Image.fromarray(pixels), PngInfo()
    size = conversion.size(*grey.size)
    texts.add_text(_ORIGIN, made["origin"])
    texts.add_text(_NOTES, json.dumps(made["notes"]))
    with atomic_path(image) as temporary:
        (grey if grey.size == size else grey.resize(size, Image.Resampling.LANCZOS)).save(
            temporary, format="PNG", pnginfo=texts
        )


def _keyed_hash(key: bytes, identifier: str) -> str:
    return hmac.new(key, identifier.encode(), hashlib.sha256).hexdigest()


def read_salt(path: str | os.PathLike[str]) -> bytes:
    """Read the key for the hash of patients' ids from a file; a missing file is created with a random key.

    Raises:
        ValueError: for a key shorter than 16 bytes, or what is no file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: not a file; give a file with the key, or a name at which one can be made")
    if not path.exists():
        write_text(path, secrets.token_hex(32) + "\n")
        path.chmod(0o600)
    salt = path.read_bytes().strip()
    if len(salt) < 16:
        raise ValueError(f"{path}: a salt of {len(salt)} bytes; patients' ids could be guessed, use 16 or more")
    return salt


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 on success and 1 after an error that was explained."""
    parser = CommandParser(prog="python -m mgll.readers.midrc_xray", description=__doc__)
    parser.add_argument("folder", help="searched for DICOM files, whatever their names")
    parser.add_argument("--out", required=True, help="manifest to write")
    parser.add_argument("--images", help="folder for the PNG files (default: images/ beside the manifest)")
    ids = parser.add_mutually_exclusive_group(required=True)
    ids.add_argument(
        "--salt-file", help="key of the hash of patients' ids; made if missing. Whoever has it can hash an id again"
    )
    ids.add_argument(
        "--keep-patient-ids", action="store_true", help="where PatientID is a pseudonym already, as in MIDRC"
    )
    parser.add_argument("--longest-side", type=int, metavar="PIXELS", help="scale larger images down (default: keep)")
    parser.add_argument(
        "--shares", type=parse_shares, default=SHARES, help="shares of train, val and test (default: 0.7,0.1,0.2)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the split by patient")
    parser.add_argument("--source", default="MIDRC", help="name of the data set")
    parser.add_argument("--licence", default="", help="licence of the images")
    parser.add_argument("--workers", type=int, default=1, help="processes that convert")
    options = parser.parse_args(arguments)

    def read() -> Found:
        conversion = Conversion(
            images=options.images or str(Path(options.out).parent / "images"),
            salt=read_salt(options.salt_file) if options.salt_file else None,
            longest_side=options.longest_side,
            seed=options.seed,
            shares=options.shares,
            source=options.source,
            licence=options.licence,
        )
        return read_midrc_xray(options.folder, conversion, options.workers)

    return write_found(options.out, read, made_by="mgll.readers.midrc_xray")


if __name__ == "__main__":
    raise SystemExit(main())
