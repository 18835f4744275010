"""Whether a pretraining saw the images that are asked about: same file, same pixels, same photograph, same patient."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import get_context
from typing import Literal

import numpy as np
from tqdm import tqdm

from benchmark.cases.case import Case
from benchmark.fundus_hash.hashing import THRESHOLD, distances, fundus_hashes
from mgll.files import sha256, write_text
from mgll.images.preprocessing import ImageError, open_image
from mgll.manifest.records import Record, Split, read_manifest

Kind = Literal["same file", "same pixels", "same photograph", "same patient"]
KINDS: tuple[Kind, ...] = ("same file", "same pixels", "same photograph", "same patient")
_CHUNK = 256  # images of the manifest that are compared at a time: what fits a processor's cache
_IMAGES_A_WORKER = 500  # fewer are not worth the start of a process


@dataclass(frozen=True)
class Overlap:
    """A case's image and a pretraining image that show the same photograph or the same patient.

    Attributes:
        kind: the strongest reason: `same file`, `same pixels` (in another file), `same photograph` (by `benchmark.fundus_hash`; to
            be looked at) or `same patient`.
        image: path of the image asked about.
        seen: path of the image in the pretraining manifest.
        bits: bits of 256 in which their hashes differ; None where not compared.
    """

    kind: Kind
    image: str
    seen: str
    bits: int | None = None


@dataclass(frozen=True)
class _Look:
    """Digests of an image's file and of its pixels, and its fundus hashes where it shows anything."""

    file: str
    pixels: str
    hashes: np.ndarray | None


def find_overlaps(
    cases: Sequence[Case], records: Sequence[Record], threshold: int = THRESHOLD
) -> tuple[list[Overlap], list[str]]:
    """Pairs of a case's image and a pretraining image, the surest kind first, and the pretraining images that could not be read.

    A pair is named once, by its strongest reason. Patients are the same where source and group are.

    Args:
        cases: the questions; their images must be readable.
        records: images that the pretraining saw.
        threshold: bits of 256 that may differ in the same photograph.

    Raises:
        ImageError: if an image of the cases can't be read.
    """
    asked = {case.image: case for case in cases}
    mine, its = (_looks(paths) for paths in (asked, dict.fromkeys(record.image for record in records)))
    for look in mine.values():
        if isinstance(look, ImageError):
            raise look
    unreadable = [str(look) for look in its.values() if isinstance(look, ImageError)]
    found: dict[tuple[str, str], Overlap] = {}
    for overlap in (
        *_equal("same file", _index(mine, "file"), _index(its, "file")),
        *_equal("same pixels", _index(mine, "pixels"), _index(its, "pixels")),
        *_alike(mine, its, threshold),
        *_equal(
            "same patient",
            [((case.source, case.group), image) for image, case in asked.items()],
            [((record.source, record.group), record.image) for record in records],
        ),
    ):
        found.setdefault((overlap.image, overlap.seen), overlap)
    return sorted(found.values(), key=lambda overlap: (KINDS.index(overlap.kind), overlap.bits or 0)), unreadable


def report_overlaps(
    cases: Sequence[Case],
    manifest: str | os.PathLike[str],
    split: Split | None = "train",
    pairs: str | os.PathLike[str] | None = None,
    threshold: int = THRESHOLD,
) -> int:
    """Print what `find_overlaps` finds in a manifest, and write all pairs as CSV to `pairs` if given; 1 if there are any."""
    records = read_manifest(manifest, split)
    overlaps, unreadable = find_overlaps(cases, records, threshold)
    images = len({case.image for case in cases})
    seen = len({overlap.image for overlap in overlaps})
    print(
        f"{seen} of {images} images asked about were seen in {manifest} ({split or 'all splits'}, {len(records)} images)"
    )
    for kind, group in groupby(overlaps, key=lambda overlap: overlap.kind):
        members = list(group)
        note = f" (at most {threshold} of 256 bits differ; look at them)" if kind == "same photograph" else ""
        print(f"{kind}: {len(members)} pairs{note}")
        for overlap in members[:10]:
            print(
                f"  {overlap.image} = {overlap.seen}" + (f" ({overlap.bits} bits)" if overlap.bits is not None else "")
            )
        if len(members) > 10:
            print(f"  ... and {len(members) - 10} more" + ("" if pairs else "; --pairs FILE.csv writes all"))
    if unreadable:
        print(f"{len(unreadable)} of its images can't be read and were not compared, the first: {unreadable[0]}")
    if pairs is not None:
        # here, because pandas takes a moment to import
        import pandas as pd

        write_text(pairs, pd.DataFrame(overlaps, columns=["kind", "image", "seen", "bits"]).to_csv(index=False))
    return int(bool(overlaps))


def _looks(paths: Iterable[str]) -> dict[str, _Look | ImageError]:
    paths = list(paths)
    workers = min(os.cpu_count() or 1, len(paths) // _IMAGES_A_WORKER)
    with tqdm(total=len(paths), desc="looking at images", unit="image", leave=False, disable=None) as bar:
        looks: dict[str, _Look | ImageError] = {}
        if workers < 2:
            for path in paths:
                looks[path] = _look(path)
                bar.update()
            return looks
        # Spawned, not forked: the caller may hold threads (torch does).
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for path, look in zip(paths, pool.map(_look, paths, chunksize=32), strict=True):
                looks[path] = look
                bar.update()
        return looks


def _look(path: str) -> _Look | ImageError:
    try:
        image = open_image(path)
        pixels = hashlib.sha256(str(image.size).encode() + image.tobytes()).hexdigest()
        return _Look(sha256(path), pixels, fundus_hashes(image))
    except ImageError as error:
        return error


def _index(looks: dict[str, _Look | ImageError], digest: Literal["file", "pixels"]) -> list[tuple[str, str]]:
    return [(getattr(look, digest), path) for path, look in looks.items() if isinstance(look, _Look)]


def _equal(kind: Kind, mine: Iterable[tuple[object, str]], its: Iterable[tuple[object, str]]) -> Iterable[Overlap]:
    holders: dict[object, list[str]] = {}
    for key, path in its:
        holders.setdefault(key, []).append(path)
    return (Overlap(kind, path, seen) for key, path in mine for seen in holders.get(key, ()))


def _alike(
    mine: dict[str, _Look | ImageError], its: dict[str, _Look | ImageError], threshold: int
) -> Iterable[Overlap]:
    (images, hashes), (others, other_hashes) = _hashed(mine), _hashed(its)
    for start in range(0, len(others), _CHUNK):
        bits = distances(hashes, other_hashes[start : start + _CHUNK])
        for row, column in zip(*np.nonzero(bits <= threshold), strict=True):
            yield Overlap("same photograph", images[row], others[start + column], int(bits[row, column]))


def _hashed(looks: dict[str, _Look | ImageError]) -> tuple[list[str], np.ndarray]:
    known = {path: look.hashes for path, look in looks.items() if isinstance(look, _Look) and look.hashes is not None}
    return list(known), np.stack(list(known.values())) if known else np.zeros((0, 4, 4), dtype=np.uint64)
