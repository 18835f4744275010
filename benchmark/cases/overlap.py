"""Whether a pretraining saw the images that are asked about: same file, same pixels, same photograph, same patient."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np

from benchmark.cases.case import Case
from mgll.files import sha256, write_text
from mgll.images.files import ImageError
from mgll.images.fundus_hash import THRESHOLD, near_pairs
from mgll.images.looks import Look, Looks, look_at, stacked_hashes
from mgll.manifest.records import Record, Split, patient_of, read_manifest
from mgll.tower.seen import read_seen

Kind = Literal["same file", "same pixels", "same photograph", "same patient"]
KINDS: tuple[Kind, ...] = ("same file", "same pixels", "same photograph", "same patient")
#: What becomes of images that were seen: nothing is built, they are left out, or they are kept and counted.
Rule = Literal["refuse", "drop", "keep"]
RULES: tuple[Rule, ...] = ("refuse", "drop", "keep")


@dataclass(frozen=True)
class Overlap:
    """An image asked about and a pretraining image that show the same photograph or the same patient.

    Attributes:
        kind: the strongest reason: `same file`, `same pixels` (in another file), `same photograph` (by the fundus hash; to be
            looked at) or `same patient`.
        image: path of the image asked about.
        seen: path of the image in the pretraining manifest; for a tower its number in the file of digests.
        bits: bits of 256 in which their hashes differ; None where not compared.
    """

    kind: Kind
    image: str
    seen: str
    bits: int | None = None


@dataclass(frozen=True)
class Pretraining:
    """The images that a pretraining saw.

    Attributes:
        name: path of the manifest or of the tower.
        images: path of each image, or its number.
        files, pixels: hex digests of each, or their first digits; empty where there is none.
        places: which of the images have a fundus hash.
        hashes: these hashes [len(places), 4, 4].
        patients: source and group of each; empty for a tower, which does not know them.
        unreadable: for each image that could not be compared, why.
        unknown: what else was seen and can't be compared, in words; empty where nothing.
    """

    name: str
    images: Sequence[str]
    files: Sequence[str]
    pixels: Sequence[str]
    places: Sequence[int]
    hashes: np.ndarray
    patients: Sequence[tuple[str, str]] = ()
    unreadable: Sequence[str] = ()
    unknown: str = ""


@dataclass(frozen=True)
class Compared:
    """What comparing the images asked about with one pretraining gave.

    Attributes:
        pretraining: what was compared with.
        overlaps: pairs, the surest kind first.
    """

    pretraining: Pretraining
    overlaps: Sequence[Overlap]

    @property
    def found(self) -> dict[str, Kind]:
        """The images asked about that were seen, each with its surest kind."""
        return {overlap.image: overlap.kind for overlap in reversed(self.overlaps)}

    @property
    def counts(self) -> str:
        """How many images asked about were found by each kind, in words."""
        kinds = Counter(self.found.values())
        return ", ".join(f"{kind} {kinds[kind]}" for kind in KINDS if kinds[kind])

    def header(self) -> dict[str, object]:
        """What the header of the cases says about it; no path, so that the same images give the same bytes."""
        kinds = Counter(self.found.values())
        return {
            "sha256": sha256(self.pretraining.name),
            "images": len(self.pretraining.images),
            "not_compared": len(self.pretraining.unreadable),
            "found": {kind: kinds[kind] for kind in KINDS if kinds[kind]},
        } | ({"unknown": self.pretraining.unknown} if self.pretraining.unknown else {})


@dataclass(frozen=True)
class OverlapCheck:
    """How questions are checked against what was trained on, and what was looked at so far.

    Attributes:
        pretraining: manifests, whose split `train` counts, and towers.
        rule: what becomes of images that were seen.
        looks: digests by path; builds that share one look at each image once.
    """

    pretraining: Sequence[str | os.PathLike[str]] = ()
    rule: Rule = "refuse"
    looks: Looks = field(default_factory=dict)

    def compare(
        self, manifest: str | os.PathLike[str], split: Split | None, records: Sequence[Record]
    ) -> list[Compared]:
        """Compare records of a manifest's split with its own split `train` and with every pretraining.

        Questions to learn (`train`) are compared with nothing: they may be about images of the pretraining. Questions about all
        splits at once (None) are compared with the pretrainings alone.

        An image of the records that can't be read overlaps with none.

        Raises:
            FormatError: for a bad manifest or tower.
        """
        if split == "train":
            return []
        own = [str(manifest)] if split and any(record.split == "train" for record in read_manifest(manifest)) else []
        others = [str(path) for path in self.pretraining if not own or not _same(path, manifest)]
        compared = []
        for path in (*own, *others):
            seen = seen_by(path, looks=self.looks)
            compared.append(Compared(seen, _overlaps(records, look_at(_paths(records), self.looks), seen, THRESHOLD)))
        return compared


class OverlapError(ValueError):
    """Images asked about that were trained on. The message says how many and where, the first pair, and what can be done.

    Attributes:
        compared: all that was found.
    """

    def __init__(self, compared: Sequence[Compared], asked: int, manifest: str | os.PathLike[str]) -> None:
        self.compared = compared
        images = {image for one in compared for image in one.found}
        places = "; ".join(
            f"{len(one.found)} in {one.pretraining.name} ({one.counts})" for one in compared if one.found
        )
        first = next(overlap for one in compared for overlap in one.overlaps)
        bits = "" if first.bits is None else f", {first.bits} bits apart"
        super().__init__(
            f"{len(images)} of {asked} images asked about were trained on: {places}; the first, {first.image}, is"
            f" {first.seen} ({first.kind}{bits}). Merge such patients with `python -m mgll.manifest group {manifest} --out"
            " NEW`, leave these images out with `--overlap drop`, or keep them, counted on the data card, with `--overlap keep`"
        )


def overlap_header(rule: Rule, images: int, compared: Sequence[Compared]) -> dict[str, object]:
    """What the header of the cases says: the rule, how many images were compared and found, and with what."""
    found = {image for one in compared for image in one.found}
    entries = [one.header() for one in compared]
    return {"rule": rule, "images": images if compared else 0, "found": len(found), "compared_with": entries}


def seen_by(path: str | os.PathLike[str], split: Split | None = "train", looks: Looks | None = None) -> Pretraining:
    """What a manifest's split holds, or what a tower file says that it was trained on.

    Args:
        path: a manifest or a tower file.
        split: the split of a manifest that was trained on; None for all.
        looks: digests found before, which grow.

    Raises:
        FormatError: if it is neither, or a tower that does not know its images.
    """
    name = str(path)
    if _is_manifest(path):
        return _seen_in(name, read_manifest(path, split), looks)
    seen = read_seen(path)
    # an image without structure has zeros for a hash
    places = np.flatnonzero(seen.hashes.any(axis=(1, 2))).tolist()
    images = [f"training image {number} of {name}" for number in range(1, len(seen.rows) + 1)]
    unknown = str(seen.origin.get("not_known") or "")
    return Pretraining(name, images, seen.files, seen.pixels, places, seen.hashes[places], unknown=unknown)


def find_overlaps(
    cases: Sequence[Case] | Sequence[Record], records: Sequence[Record], threshold: int = THRESHOLD
) -> tuple[list[Overlap], list[str]]:
    """Pairs of a case's image and a pretraining image, the surest kind first, and the pretraining images that could not be read.

    A pair is named once, by its strongest reason. Patients are the same where source and group are.

    Args:
        cases: the questions, or records of the images asked about; their images must be readable.
        records: images that the pretraining saw.
        threshold: bits of 256 that may differ in the same photograph.

    Raises:
        ImageError: if an image of the cases can't be read.
    """
    seen = _seen_in("", records, None)
    return _overlaps(cases, _looks_of(cases), seen, threshold), list(seen.unreadable)


def report_overlaps(
    cases: Sequence[Case],
    pretraining: str | os.PathLike[str],
    split: Split | None = "train",
    pairs: str | os.PathLike[str] | None = None,
    threshold: int = THRESHOLD,
) -> int:
    """Print which images of the cases a manifest or a tower saw, and write all pairs as CSV to `pairs` if given; 1 if any."""
    seen = seen_by(pretraining, split)
    overlaps = _overlaps(cases, _looks_of(cases), seen, threshold)
    images, found = len(set(_paths(cases))), len({overlap.image for overlap in overlaps})
    what = f"{split or 'all splits'}, {len(seen.images)} images" if seen.patients else f"{len(seen.images)} images"
    print(f"{found} of {images} images asked about were seen in {pretraining} ({what})")
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
    if seen.unreadable:
        print(
            f"{len(seen.unreadable)} of its images can't be read and were not compared, the first: {seen.unreadable[0]}"
        )
    if seen.unknown:
        print(f"not compared: {seen.unknown}")
    if not seen.patients:
        print("a tower does not know its patients; give the manifest to compare them")
    if pairs is not None:
        # here, because pandas takes a moment to import
        import pandas as pd

        write_text(pairs, pd.DataFrame(overlaps, columns=["kind", "image", "seen", "bits"]).to_csv(index=False))
    return int(bool(overlaps))


def _paths(asked: Sequence[Case] | Sequence[Record]) -> list[str]:
    return [one.image for one in asked]


def _looks_of(cases: Sequence[Case] | Sequence[Record]) -> Looks:
    looks = look_at(_paths(cases))
    for look in looks.values():
        if isinstance(look, ImageError):
            raise look
    return looks


def _same(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    return Path(path).resolve() == Path(other).resolve()


def _is_manifest(path: str | os.PathLike[str]) -> bool:
    """Whether a file is to be read as a manifest: a tower begins with a small number of 64 bits, so with zeros."""
    if not Path(path).is_file():
        return True  # which says that there is no such file
    with Path(path).open("rb") as file:
        return b"\0" not in file.read(8)


def _seen_in(name: str, records: Sequence[Record], looks: Looks | None) -> Pretraining:
    records = list(records)
    found = look_at(_paths(records), looks)
    each = [found[record.image] for record in records]
    files, pixels = ([_digest(look, which) for look in each] for which in ("file", "pixels"))
    return Pretraining(
        name,
        _paths(records),
        files,
        pixels,
        *stacked_hashes(each),
        patients=[record.patient for record in records],
        unreadable=[str(look) for look in found.values() if isinstance(look, ImageError)],
    )


def _digest(look: Look | ImageError, which: str) -> str:
    return str(getattr(look, which)) if isinstance(look, Look) else ""


def _overlaps(
    asked: Sequence[Case] | Sequence[Record], looks: Looks, seen: Pretraining, threshold: int
) -> list[Overlap]:
    by_image = {one.image: one for one in asked}
    images = list(by_image)
    mine = [looks[image] for image in images]
    found: dict[tuple[str, str], Overlap] = {}
    for overlap in (
        *_equal("same file", [(_digest(look, "file"), image) for look, image in zip(mine, images, strict=True)], seen),
        *_equal(
            "same pixels", [(_digest(look, "pixels"), image) for look, image in zip(mine, images, strict=True)], seen
        ),
        *_alike(images, mine, seen, threshold),
        *_equal("same patient", [(patient_of(one.source, one.group), image) for image, one in by_image.items()], seen),
    ):
        found.setdefault((overlap.image, overlap.seen), overlap)
    return sorted(found.values(), key=lambda overlap: (KINDS.index(overlap.kind), overlap.bits or 0))


def _equal(kind: Kind, mine: Iterable[tuple[object, str]], seen: Pretraining) -> Iterable[Overlap]:
    keys: Sequence[object] = {"same file": seen.files, "same pixels": seen.pixels}.get(kind, seen.patients)
    holders: dict[object, list[str]] = {}
    for key, path in zip(keys, seen.images, strict=False):  # a tower has no patients
        if key:
            holders.setdefault(key, []).append(path)
    digits = len(next((key for key in holders if isinstance(key, str)), ""))  # a tower keeps the first ones
    for key, path in mine:
        wanted = key[:digits] if isinstance(key, str) else key
        yield from (Overlap(kind, path, other) for other in holders.get(wanted, ()))


def _alike(
    images: Sequence[str], looks: Sequence[Look | ImageError], seen: Pretraining, threshold: int
) -> Iterable[Overlap]:
    rows, hashes = stacked_hashes(looks)
    for row, column, bits in near_pairs(hashes, seen.hashes, threshold):
        yield Overlap("same photograph", images[rows[row]], seen.images[seen.places[column]], bits)
