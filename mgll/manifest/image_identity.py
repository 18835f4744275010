"""Whether the image files of a manifest are still the same: by their bytes, or by sizes and times of change, which is quick."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from mgll.files import sha256
from mgll.images.files import tar_member
from mgll.manifest.records import Record, read_manifest


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


def sizes_and_times(records: Iterable[Record]) -> str:
    """Digest of the sizes and times of change of all image files."""
    return hashlib.sha256("\n".join(image_states(records).values()).encode()).hexdigest()


def data_identity(manifest: str) -> dict[str, str]:
    """What a stage is made of that sees a manifest and its images: SHA-256 of its bytes, and their sizes and times of change."""
    return {"manifest": sha256(manifest), "images": sizes_and_times(read_manifest(manifest))}


def file_state(file: Path, by_bytes: bool = False) -> str:
    """The state of one file in one word, as `image_states` gives it."""
    if not file.is_file():
        return "missing"
    if by_bytes:
        return sha256(file)
    stat = file.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}"
