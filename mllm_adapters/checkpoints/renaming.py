"""Names of tensors in a published layout, turned into the names that are written."""

import re
from collections.abc import Iterable
from pathlib import Path

from mgll.formats import FormatError

#: Pairs of a regex for the start of a published name and what takes its place.
NameTable = tuple[tuple[str, str], ...]


def renamed(names: Iterable[str], table: NameTable, left_out: str, path: Path) -> dict[str, str]:
    """The name to write for every published name, in the same order.

    Args:
        names: the published names.
        table: the first pair whose regex matches decides.
        left_out: regex for whole names of tensors that are not written, such as computed tables.
        path: the checkpoint, for the message.

    Raises:
        FormatError: if there are tensors that neither `table` nor `left_out` knows.
    """
    found, unknown = {}, []
    for name in names:
        if re.fullmatch(left_out, name):
            continue
        new = next((re.sub(old, new, name, count=1) for old, new in table if re.match(old, name)), None)
        if new is None:
            unknown.append(name)
        else:
            found[name] = new
    if unknown:
        raise FormatError(path, None, f"tensors that the family does not have: {', '.join(sorted(unknown)[:6])}")
    return found
