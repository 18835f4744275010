"""Patients under several names: groups whose photographs match become one group, in one split.

    python -m mgll.manifest group MANIFEST --out NEW --pairs pairs.csv

Where a data set names no patients, or two data sets share photographs, a split by group leaks. Two groups are one where they hold
the same file, the same pixels or, by `mgll.images.fundus_hash`, the same photograph; and groups that are one with a third are one.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mgll.files import sha256, write_text
from mgll.formats import FormatError, read_header
from mgll.images.files import ImageError
from mgll.images.fundus_hash import THRESHOLD, near_pairs
from mgll.images.looks import Look, look_at, stacked_hashes
from mgll.manifest.records import MERGED, SCHEMA, Record, Split, read_manifest, stored_under, write_manifest

Sign = Literal["same file", "same pixels", "same photograph"]
SIGNS: tuple[Sign, ...] = ("same file", "same pixels", "same photograph")
#: A merged group goes to the first of these that it has an image in: what was trained on can't be untrained, so the image leaves
#: the questions, and of the two that are held out it leaves the one that is reported.
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Match:
    """Two images of a manifest that show one patient though their groups differ.

    Attributes:
        sign: the surest sign by which they match.
        first, second: places of the images in the manifest.
        bits: bits of 256 in which their hashes differ; None where not compared.
    """

    sign: Sign
    first: int
    second: int
    bits: int | None = None


@dataclass(frozen=True)
class Grouping:
    """What merging the groups of a manifest found.

    Attributes:
        records: the images with their new groups and splits, in the order of the manifest.
        before: the same images as they were.
        merged: name of each merged group -> source and name of the groups in it.
        matches: pairs of images of two groups that became one.
        unreadable: for each image that could not be compared, why.
    """

    records: list[Record]
    before: Sequence[Record]
    merged: dict[str, list[tuple[str, str]]]
    matches: list[Match]
    unreadable: list[str]

    @property
    def moved(self) -> Counter[tuple[Split, Split]]:
        """Number of images that changed their split, by old and new split."""
        pairs = zip(self.before, self.records, strict=True)
        return Counter((old.split, new.split) for old, new in pairs if old.split != new.split)

    def header(self) -> dict[str, object]:
        """What the header of the new manifest says."""
        return {
            "groups": sum(map(len, self.merged.values())),
            "into": len(self.merged),
            "moved": {f"{old} to {new}": images for (old, new), images in sorted(self.moved.items())},
            "not_compared": len(self.unreadable),
        }

    def describe(self) -> str:
        """Counts as text: matches by sign, groups merged, images moved, images not compared."""
        signs = Counter(match.sign for match in self.matches)
        largest = max(map(len, self.merged.values()), default=0)
        lines = [f"{sign}: {signs[sign]} pairs of images in different groups" for sign in SIGNS]
        lines.append(
            f"{sum(map(len, self.merged.values()))} groups became {len(self.merged)}"
            + (f", the largest of {largest}" if largest else "")
        )
        lines += [
            f"{images} images moved from {old} to {new}, where their group has others"
            for (old, new), images in self.moved.items()
        ] or ["no image changed its split"]
        if self.unreadable:
            lines.append(
                f"{len(self.unreadable)} images can't be read and were not compared, the first: {self.unreadable[0]}"
            )
        return "\n".join(lines)

    def csv(self) -> str:
        """The matches as CSV, a line each: sign, bits, and path, source, group and split of both images as they were."""
        # here, because pandas takes a moment to import
        import pandas as pd

        fields = ("image", "source", "group", "split")
        rows = []
        for match in self.matches:
            images = (self.before[match.first], self.before[match.second])
            rows.append([match.sign, match.bits, *(getattr(image, field) for image in images for field in fields)])
        columns = ["sign", "bits", *fields, *(f"other_{field}" for field in fields)]
        table = pd.DataFrame(rows, columns=columns)
        return str(table.astype({"bits": "Int64"}).to_csv(index=False))


def group_photographs(records: Sequence[Record], threshold: int = THRESHOLD) -> Grouping:
    """Merge the groups whose photographs match, and give each merged group one split.

    A merged group that spans splits goes to the first of `train`, `val` and `test` that it has an image in. Its name is `merged:`
    with source and name of its first group; names of that form mean one patient in all sources. Groups that match no other
    stay as they are, and so do images that can't be read or show one colour alone.

    Args:
        records: the images; paths must be resolved, as `read_manifest` returns them.
        threshold: bits of 256 that may differ in the same photograph.
    """
    records = list(records)
    looks = look_at(record.image for record in records)
    each = [looks[record.image] for record in records]
    numbers: dict[tuple[str, str], int] = {}
    group_of = [numbers.setdefault(record.patient, len(numbers)) for record in records]
    joined = list(range(len(numbers)))  # the trees of union-find; a root is the lowest number in its tree
    matches: dict[tuple[int, int], Match] = {}
    for match in _matches(each, threshold):
        first, second = group_of[match.first], group_of[match.second]
        if first != second and (match.first, match.second) not in matches:
            matches[match.first, match.second] = match
            roots = sorted((_root(joined, first), _root(joined, second)))
            joined[roots[1]] = roots[0]
    patients = list(numbers)
    splits: dict[int, Split] = {}
    members: dict[int, list[tuple[str, str]]] = {}
    for number, patient in enumerate(patients):
        members.setdefault(_root(joined, number), []).append(patient)
    for record, group in zip(records, group_of, strict=True):
        root = _root(joined, group)
        splits[root] = min(splits.get(root, record.split), record.split, key=SPLITS.index)
    names = {root: MERGED + "/".join(filter(None, patients[root])).removeprefix(MERGED) for root in members}
    new = []
    for record, group in zip(records, group_of, strict=True):
        root = _root(joined, group)
        changes = {"group": names[root], "split": splits[root]} if len(members[root]) > 1 else {}
        new.append(record.model_copy(update=changes))
    merged = {names[root]: found for root, found in members.items() if len(found) > 1}
    unreadable = [str(look) for look in looks.values() if isinstance(look, ImageError)]
    return Grouping(new, records, merged, list(matches.values()), unreadable)


def group_manifest(
    manifest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    pairs: str | os.PathLike[str] | None = None,
    threshold: int = THRESHOLD,
) -> Grouping:
    """Write a manifest in which every patient that the photographs show to be one is one group; see `group_photographs`.

    Its header keeps the entries of the old one and says under `grouped` what was merged. `pairs` gets the matches as CSV.

    Raises:
        FormatError: if the manifest is wrong, or none of its images can be read.
    """
    grouping = group_photographs(read_manifest(manifest), threshold)
    if len(grouping.unreadable) == len({record.image for record in grouping.before}):
        raise FormatError(manifest, None, f"none of its images can be read, the first: {grouping.unreadable[0]}")
    header = {key: value for key, value in read_header(manifest, SCHEMA).items() if key not in ("schema", "grouped")}
    grouped = {"manifest_sha256": sha256(manifest), "threshold": threshold, **grouping.header()}
    folder = Path(out).absolute().parent
    records = (stored_under(record, folder) for record in grouping.records)
    write_manifest(out, records, **header, grouped=grouped)
    if pairs is not None:
        write_text(pairs, grouping.csv())
    return grouping


def _matches(looks: Sequence[Look | ImageError], threshold: int) -> Iterator[Match]:
    """Pairs of places whose images match, the surest sign first; equal files and pixels are named by their first holder."""
    for sign in ("file", "pixels"):
        holders: dict[str, int] = {}
        for place, look in enumerate(looks):
            if isinstance(look, Look) and look.pixels:  # an image of one colour shows nobody
                first = holders.setdefault(getattr(look, sign), place)
                if first != place:
                    yield Match("same file" if sign == "file" else "same pixels", first, place)
    places, hashes = stacked_hashes(looks)
    for first, second, bits in near_pairs(hashes, threshold=threshold):
        yield Match("same photograph", places[first], places[second], bits)


def _root(joined: list[int], number: int) -> int:
    while joined[number] != number:
        joined[number] = joined[joined[number]]
        number = joined[number]
    return number
