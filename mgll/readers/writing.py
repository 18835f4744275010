"""The last step of every reader: the manifest is checked and written, and what was left out or contradicts itself is reported."""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from mgll.files import write_text
from mgll.formats import FormatError
from mgll.images.files import image_exists
from mgll.manifest.contradictions import contradictions_of, count_contradictions
from mgll.manifest.records import Record, stored_under, write_manifest
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS

#: What a reader returns: records, and notes that say for each reason how many images were left out or changed.
Found = tuple[Sequence[Record], Counter[str]]
#: So many kinds of notes are named in an error.
_TOLD = 3
#: So many images of one patient surprise nobody.
_FEW_IMAGES = 20


def write_found(
    out: str | os.PathLike[str], read: Callable[[], Found], *, table: ClassTable = FUNDUS, **header: object
) -> int:
    """Read a data set, write its manifest and print what happened; returns the exit code for the reader's command.

    Images that do not exist are left out and counted. Images under the manifest's folder get relative paths, so that the
    folder can be moved. A class table other than the fundus one goes into the header. Images whose labels contradict each other
    stay, are counted, and are listed beside the manifest.
    """
    records, notes = read()
    missing = [record.image for record in records if not image_exists(record.image)]
    if missing:
        notes[f"the image is not there; the first is {missing[0]}"] = len(missing)
        absent = set(missing)
        records = [record for record in records if record.image not in absent]
    if not records:
        raise FormatError(out, None, f"no image to write: {briefly(notes) or 'nothing was found'}")
    _check_groups(out, records)
    folder = Path(out).absolute().parent
    stored = [stored_under(record, folder).of(table) for record in records]
    write_manifest(out, stored, **header)
    print(f"{out}: {len(records)} images of {len({record.patient for record in records})} groups")
    if notes:
        print(_told(notes))
    _name_large_group(records)
    _list_contradictions(Path(out), stored)
    return 0


def _name_large_group(records: Sequence[Record]) -> None:
    """Name a group that holds so many of the images that it may stand for all unknown patients."""
    (_, group), images = Counter(record.patient for record in records).most_common(1)[0]
    if images > max(_FEW_IMAGES, len(records) / 4):
        print(
            f"group {group!r} holds {images} of {len(records)} images; if it stands for unknown patients, leave these cells empty"
        )


def _list_contradictions(out: Path, records: Sequence[Record]) -> None:
    """Count the images whose labels contradict each other, and list them in a CSV file beside the manifest."""
    path = out.with_name(f"{out.stem}.contradictions.csv")
    found = {record.image: pairs for record in records if (pairs := contradictions_of(record))}
    if not found:
        path.unlink(missing_ok=True)  # an earlier manifest's
        return
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(
        [("image", "contradiction"), *((image, "; ".join(pairs)) for image, pairs in found.items())]
    )
    write_text(path, table.getvalue())
    counts = ", ".join(f"{pair} {images}" for pair, images in count_contradictions(records).most_common())
    print(f"contradictory labels: {len(found)} images ({counts}); {path} lists them, and questions leave them out")


def briefly(notes: Counter[str]) -> str:
    """What was noted, in one line: the commonest, and the number of other kinds. Images that are not there come first."""
    kinds = sorted(notes, key=lambda reason: (not reason.startswith("the image is not there"), -notes[reason]))
    more = f"; and {len(kinds) - _TOLD} kinds more" if len(kinds) > _TOLD else ""
    return "; ".join(f"{reason}: {notes[reason]} images" for reason in kinds[:_TOLD]) + more


def _told(notes: Counter[str]) -> str:
    return "\n".join(f"  {reason}: {images} images" for reason, images in notes.most_common()) or "nothing was found"


def _check_groups(out: str | os.PathLike[str], records: Sequence[Record]) -> None:
    split_of: dict[tuple[str, str], str] = {}
    for record in records:
        first = split_of.setdefault(record.patient, record.split)
        if first != record.split:
            raise FormatError(
                out,
                None,
                f"group {record.group!r} is in split {record.split!r} ({record.image}) and in {first!r};"
                " give a coarser group or let the reader split by group",
            )
