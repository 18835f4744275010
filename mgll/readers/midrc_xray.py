"""Radiographs in DICOM (MIDRC, the paper's MGLL-Xray) -> 8-bit PNG files and a manifest.

Three levels (Table 11): `modality` (CR or DX), `study` and `series` (the two descriptions). Images are written as PNG, as in the
paper, because a DICOM file takes longer to decode in every epoch and carries names. Neither names nor dates are written; `group`
is the patient's id, hashed with a key or as it is, and images are split by it. Descriptions are free text: check them for names.

    python -m mgll.readers.midrc_xray FOLDER --out xray/manifest.jsonl --salt-file secret.txt
"""

import argparse
import hashlib
import hmac
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from tqdm import tqdm

from mgll.files import atomic_path, write_text
from mgll.images.files import ImageError
from mgll.manifest.records import Record
from mgll.readers.cells import is_missing
from mgll.readers.dicom_pixels import grey_pixels
from mgll.readers.splits import SHARES, parse_shares, split_of_group
from mgll.readers.writing import Found, write_found
from mgll.vocabulary.label_texts import MODALITY, SERIES, STUDY

if TYPE_CHECKING:
    from pydicom import Dataset

MODALITIES = ("CR", "DX")


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

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height, in pixels, of the PNG file for an image of this width and height."""
        scale = min(1.0, (self.longest_side or width + height) / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))


def read_midrc_xray(folder: str | os.PathLike[str], conversion: Conversion, workers: int = 1) -> Found:
    """Convert every radiograph below `folder`; returns records, and how many files were left out and why.

    PNG files that exist already are kept, so that a stopped conversion can be continued. `left_out.txt` in the folder of the PNG
    files names every file that was left out.
    """
    paths = sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())
    records: dict[str, Record] = {}
    left_out = []
    results = tqdm(_converted(paths, conversion, workers), total=len(paths), unit="file")
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, str):
            left_out.append((path, result))
        elif records.setdefault(result.image, result) is not result:
            left_out.append((path, "an image with this SOPInstanceUID came before"))
    if left_out:
        write_text(Path(conversion.images) / "left_out.txt", "".join(f"{path}: {why}\n" for path, why in left_out))
    return list(records.values()), Counter(why for _, why in left_out)


def _converted(paths: list[str], conversion: Conversion, workers: int) -> Iterator[Record | str]:
    if workers <= 1:
        yield from (_convert(path, conversion) for path in paths)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_convert, paths, [conversion] * len(paths), chunksize=16)


def _convert(path: str, conversion: Conversion) -> Record | str:
    """Write the PNG of a file and return its record, or the reason why the file is left out."""
    # optional, from the extra `dicom`
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(path, stop_before_pixels=True)
        if why := _unfit(header):
            return why
        image = conversion.image(str(header.SOPInstanceUID))
        size = conversion.size(int(header.Columns), int(header.Rows))
        if not _is_written(image, size):
            _write_png(grey_pixels(dcmread(path)), image, size)
    except InvalidDicomError:
        return "not a DICOM file"
    except ImageError as error:
        return str(error)
    except (OSError, EOFError, ValueError, AttributeError, KeyError, TypeError, NotImplementedError) as error:
        return f"damaged DICOM file ({type(error).__name__})"
    group = conversion.group(str(header.PatientID).strip())
    return Record(
        image=str(image),
        split=split_of_group(group, conversion.seed, conversion.shares),
        group=group,
        texts={
            level: (text,)
            for level, keyword in ((MODALITY, "Modality"), (STUDY, "StudyDescription"), (SERIES, "SeriesDescription"))
            if (text := " ".join(str(header.get(keyword) or "").split()))
        },
        source=conversion.source,
        licence=conversion.licence,
    )


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


def _is_written(image: Path, size: tuple[int, int]) -> bool:
    if not image.is_file():
        return False
    with Image.open(image) as found:
        return found.size == size


def _write_png(pixels: np.ndarray, image: Path, size: tuple[int, int]) -> None:
    grey = Image.fromarray(pixels)
    with atomic_path(image) as temporary:
        (grey if grey.size == size else grey.resize(size, Image.Resampling.LANCZOS)).save(temporary, format="PNG")


def _keyed_hash(key: bytes, identifier: str) -> str:
    return hmac.new(key, identifier.encode(), hashlib.sha256).hexdigest()


def read_salt(path: str | os.PathLike[str]) -> bytes:
    """Read the key for the hash of patients' ids from a file; a missing file is created with a random key.

    Raises:
        ValueError: for a key shorter than 16 bytes.
    """
    path = Path(path)
    if not path.exists():
        write_text(path, secrets.token_hex(32) + "\n")
        path.chmod(0o600)
    salt = path.read_bytes().strip()
    if len(salt) < 16:
        raise ValueError(f"{path}: a salt of {len(salt)} bytes; patients' ids could be guessed, use 16 or more")
    return salt


def _main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m mgll.readers.midrc_xray", description=__doc__)
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
    raise SystemExit(_main())
