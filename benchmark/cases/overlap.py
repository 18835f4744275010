"""Whether a pretraining saw the images that are asked about: same file, same pixels, same photograph, same patient."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from benchmark.cases.case import Case
from mgll.files import write_text
from mgll.images.files import ImageError
from mgll.images.fundus_hash import THRESHOLD, near_pairs
from mgll.images.looks import Look, look_at, stacked_hashes
from mgll.manifest.records import Record, Split, patient_of, read_manifest

Kind = Literal["same file", "same pixels", "same photograph", "same patient"]
KINDS: tuple[Kind, ...] = ("same file", "same pixels", "same photograph", "same patient")


@dataclass(frozen=True)
class Overlap:
    """A case's image and a pretraining image that show the same photograph or the same patient.

    Attributes:
        kind: the strongest reason: `same file`, `same pixels` (in another file), `same photograph` (by the fundus hash; to be
            looked at) or `same patient`.
        image: path of the image asked about.
        seen: path of the image in the pretraining manifest.
        bits: bits of 256 in which their hashes differ; None where not compared.
    """

    kind: Kind
    image: str
    seen: str
    bits: int | None = None


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
    mine, its = (look_at(paths) for paths in (asked, dict.fromkeys(record.image for record in records)))
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
            [(patient_of(case.source, case.group), image) for image, case in asked.items()],
            [(record.patient, record.image) for record in records],
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


def _index(looks: dict[str, Look | ImageError], digest: Literal["file", "pixels"]) -> list[tuple[str, str]]:
    found = [(getattr(look, digest), path) for path, look in looks.items() if isinstance(look, Look)]
    return [(value, path) for value, path in found if value]  # an image of one colour has no digest of its pixels


def _equal(kind: Kind, mine: Iterable[tuple[object, str]], its: Iterable[tuple[object, str]]) -> Iterable[Overlap]:
    holders: dict[object, list[str]] = {}
    for key, path in its:
        holders.setdefault(key, []).append(path)
    return (Overlap(kind, path, seen) for key, path in mine for seen in holders.get(key, ()))


def _alike(mine: dict[str, Look | ImageError], its: dict[str, Look | ImageError], threshold: int) -> Iterable[Overlap]:
    images, others = list(mine), list(its)
    (rows, hashes), (columns, other_hashes) = stacked_hashes(mine.values()), stacked_hashes(its.values())
    for row, column, bits in near_pairs(hashes, other_hashes, threshold):
        yield Overlap("same photograph", images[rows[row]], others[columns[column]], bits)
