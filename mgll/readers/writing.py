"""The last step of every reader: the manifest is checked and written, and what was left out is reported."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from mgll.formats import FormatError
from mgll.images.files import image_exists
from mgll.machine_errors import ends_in_one_line
from mgll.manifest.records import Record, stored_under, write_manifest

#: What a reader returns: records, and notes that say for each reason how many images were left out or changed.
Found = tuple[Sequence[Record], Counter[str]]


@ends_in_one_line
def write_found(out: str | os.PathLike[str], read: Callable[[], Found], **header: object) -> int:
    """Read a data set, write its manifest and print what happened; returns the exit code for the reader's command.

    Images that do not exist are left out and counted. Images under the manifest's folder get relative paths, so that the
    folder can be moved.
    """
    try:
        records, notes = read()
        missing = [record.image for record in records if not image_exists(record.image)]
        if missing:
            notes[f"the image is not there; the first is {missing[0]}"] = len(missing)
            absent = set(missing)
            records = [record for record in records if record.image not in absent]
        if not records:
            raise FormatError(out, None, f"no image to write; {_told(notes)}")
        _check_groups(out, records)
    except (FormatError, ValueError) as error:
        print(error)
        return 1
    folder = Path(out).absolute().parent
    write_manifest(out, (stored_under(record, folder) for record in records), **header)
    print(f"{out}: {len(records)} images of {len({record.patient for record in records})} groups")
    if notes:
        print(_told(notes))
    return 0


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
