"""Whether the image files of a manifest are still the same: by their bytes, or by sizes and times of change, which is quick."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from mgll.files import sha256
from mgll.images.files import tar_member
from mgll.manifest.records import Record, read_manifest

#: Bytes of image files that a stage reads to know them again: some seconds.
READ_WHOLE = 4 * 2**30


def image_states(records: Iterable[Record], by_bytes: bool = False) -> dict[Path, str]:
    """The state of every image file, shards among them, in the order of the records.

    Args:
        records: images.
        by_bytes: the SHA-256 of a file's bytes instead of its size in bytes and its time of change in nanoseconds.

    Returns:
        File -> its state in one word; a missing file has "missing".
    """
    files = dict.fromkeys(image_file(record.image) for record in records)
    return {file: file_state(file, by_bytes) for file in files}


def image_file(image: str) -> Path:
    """The file that holds an image of a manifest: its own, or the shard of which it is a member."""
    member = tar_member(image)
    return Path(member.shard if member else image)


def images_identity(records: Iterable[Record]) -> str:
    """Digest of all image files.

    It is made of their bytes where these are at most `READ_WHOLE`, so that a fresh copy of the same images makes nothing anew; else
    of sizes and times of change, because reading a terabyte takes hours.
    """
    files = dict.fromkeys(image_file(record.image) for record in records)
    few = sum(file.stat().st_size for file in files if file.is_file()) <= READ_WHOLE
    return hashlib.sha256("\n".join(file_state(file, by_bytes=few) for file in files).encode()).hexdigest()


def data_identity(manifest: str) -> dict[str, str]:
    """What a stage is made of that sees a manifest and its images: SHA-256 of its bytes, and `images_identity`."""
    return {"manifest": sha256(manifest), "images": images_identity(read_manifest(manifest))}


def file_state(file: Path, by_bytes: bool = False) -> str:
    """The state of one file in one word, as `image_states` gives it."""
    if not file.is_file():
        return "missing"
    if by_bytes:
        return sha256(file)
    stat = file.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}"
