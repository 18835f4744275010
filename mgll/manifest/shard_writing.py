"""Shards are written: images copied byte for byte, or scaled down on the way, in several processes."""

import io
import os
import tarfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from mgll.files import atomic_path
from mgll.images.files import ImageError, image_exists, opened
from mgll.images.resized import resized_jpeg
from mgll.manifest.records import Record

IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".npz"}


@dataclass(frozen=True)
class Scaling:
    """How photographs are scaled down on their way into shards.

    Attributes:
        longest_side: pixels of the longest side; what has no more stays as it is.
        quality: JPEG quality from 1 to 95.
    """

    longest_side: int
    quality: int = 92


@dataclass
class Tally:
    """What became of the images.

    Attributes:
        resized: number of images scaled down.
        kept: number of those that were small enough.
        damaged: paths of those that can't be read, which stay as they are.
        bytes_before: bytes of all of them.
        bytes_after: bytes of their files in the shards.
    """

    resized: int = 0
    kept: int = 0
    damaged: list[str] = field(default_factory=list)
    bytes_before: int = 0
    bytes_after: int = 0

    def __iadd__(self, other: "Tally") -> "Tally":
        """Add what became of other images."""
        self.resized += other.resized
        self.kept += other.kept
        self.damaged += other.damaged
        self.bytes_before += other.bytes_before
        self.bytes_after += other.bytes_after
        return self

    def describe(self, scaling: Scaling) -> str:
        """A sentence."""
        said = (
            f"{self.resized} of {self.resized + self.kept + len(self.damaged)} images scaled down to {scaling.longest_side} px"
            f" (JPEG quality {scaling.quality}), {self.kept} were no larger and stay as they are;"
            f" {self.bytes_before / 1e9:.3g} GB are {self.bytes_after / 1e9:.3g} GB"
        )
        if self.damaged:
            said += f"; {len(self.damaged)} cannot be read and stay as they are, the first: {self.damaged[0]}"
        return said


def shard_path(out: Path, number: int) -> Path:
    """The file of a shard."""
    return out / f"{number:06d}.tar"


def write_shards(
    out: Path,
    records: Sequence[Record],
    parts: Sequence[Sequence[int]],
    scaling: Scaling | None,
    processes: int | None,
) -> Tally:
    """Write the shards that are missing.

    Args:
        out: folder of the shards.
        records: the images.
        parts: indices of the images of each shard.
        scaling: scales photographs down; None copies every byte.
        processes: at most so many where photographs are scaled down; None for one a core.

    Returns:
        What became of the images of the shards that were missing.

    Raises:
        ImageError: for an image that is missing, or has an ending that shards do not hold.
    """
    missing = [number for number in range(len(parts)) if not shard_path(out, number).is_file()]
    tally = Tally()
    tasks = ((shard_path(out, number), {i: records[i] for i in parts[number]}, scaling) for number in missing)
    workers = min(processes or os.cpu_count() or 1, len(missing)) if scaling else 1
    with tqdm(total=len(parts), initial=len(parts) - len(missing), unit="shard") as bar, ExitStack() as closing:
        if workers < 2:
            results: Iterator[Tally] = (_write_shard(*task) for task in tasks)
        else:
            # spawned, not forked: the caller may hold threads (torch does)
            pool = closing.enter_context(ProcessPoolExecutor(workers, mp_context=get_context("spawn")))
            results = _in_turn(pool, tasks, 2 * workers)
        for written in results:
            tally += written
            bar.update()
    return tally


def _in_turn(
    pool: ProcessPoolExecutor, tasks: Iterator[tuple[Path, Mapping[int, Record], Scaling | None]], ahead: int
) -> Iterator[Tally]:
    """Results of the tasks in their order; no more than `ahead` wait at a time, because each holds its records."""
    waiting: deque[Future[Tally]] = deque()
    for task in tasks:
        waiting.append(pool.submit(_write_shard, *task))
        if len(waiting) == ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _write_shard(shard: Path, records: Mapping[int, Record], scaling: Scaling | None) -> Tally:
    tally = Tally()
    with atomic_path(shard) as temporary, tarfile.open(temporary, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for index, record in records.items():
            scaled = _scaled(record.image, scaling, tally) if scaling else None
            with opened(record.image) as (name, original):
                ending = PurePosixPath(name).suffix.lower()
                if ending not in IMAGE_ENDINGS:
                    raise ImageError(
                        f"{record.image}: {ending or 'no'} ending; shards hold {', '.join(sorted(IMAGE_ENDINGS))}"
                    )
                file: IO[bytes] = io.BytesIO(scaled) if scaled else original
                described = record.model_copy(update={"image": f"{index:08d}{'.jpg' if scaled else ending}"})
                tally.bytes_before += original.seek(0, os.SEEK_END)
                tally.bytes_after += file.seek(0, os.SEEK_END)
                _add_file(tar, described.image, file)
            text = described.model_dump_json(exclude_defaults=True).encode()
            _add_file(tar, f"{index:08d}.json", io.BytesIO(text))
    return tally


def _scaled(image: str, scaling: Scaling, tally: Tally) -> bytes | None:
    """The photograph scaled down, or None for one that stays as it is."""
    try:
        scaled = resized_jpeg(image, scaling.longest_side, scaling.quality)
    except ImageError:
        if not image_exists(image):
            raise
        tally.damaged.append(image)  # training leaves it out and lists it, as it would the file itself
        return None
    tally.resized += scaled is not None
    tally.kept += scaled is None
    return scaled


def _add_file(tar: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)  # its times and owners are zero, so the same images give the same bytes
    info.size = file.seek(0, os.SEEK_END)
    file.seek(0)
    tar.addfile(info, file)
