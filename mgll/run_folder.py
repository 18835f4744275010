"""A run's folder belongs to that run: another one is refused before it writes a byte."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mgll.files import write_text
from mgll.formats import FormatError


def claim_folder(
    out: Path,
    name: str,
    run: Mapping[str, Any],
    begun: bool,
    what: str,
    may_change: Collection[str] = (),
    **beside: Any,
) -> None:
    """Write what a run is made of into its folder, or refuse the folder of another run.

    Args:
        out: the folder.
        name: the JSON file in it that holds `run`.
        run: all that decides the result; entries may be nested.
        begun: whether the folder holds work of a run already, which must then be this one.
        what: the work in words, for the message: "checkpoints of another run".
        may_change: entries of `run` in which a resumed run may differ.
        beside: further entries of the file, which are not compared.

    Raises:
        FormatError: if there is work in the folder and no readable `name` that says whose it is.
        ValueError: if it is another run's; the message lists what differs.
    """
    path = out / name
    if begun:
        refuse_another_run(out, _described(path, what), run, what, may_change)
    write_text(path, json.dumps({**run, **beside}, indent=2) + "\n")


def refuse_another_run(
    out: Path, old: Mapping[str, Any], new: Mapping[str, Any], what: str, may_change: Collection[str] = ()
) -> None:
    """Compare the entries of `new` with those of the run that the folder holds.

    Raises:
        ValueError: if one differs; the message names the first six with both values.
    """
    names = [key for key in new if key not in may_change]
    asked, found = (dict(_flat(_as_stored({key: run.get(key) for key in names}))) for run in (new, old))
    names = [*asked, *(key for key in found if key not in asked)]
    changed = [f"{key}: {found.get(key)!r} -> {asked.get(key)!r}" for key in names if found.get(key) != asked.get(key)]
    if changed:
        said = "; ".join(changed[:6]) + (f"; and {len(changed) - 6} more" if len(changed) > 6 else "")
        raise ValueError(f"{out} holds {what} ({said}); choose another --out or remove the folder")


def _described(path: Path, what: str) -> Mapping[str, Any]:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(path, None, f"cannot say whose {what} the folder holds ({error})") from None
    if not isinstance(described, dict):
        raise FormatError(path, None, "not a JSON object")
    return described


def _as_stored(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entries as a JSON file gives them back, tuples as lists."""
    stored: Mapping[str, Any] = json.loads(json.dumps(values))
    return stored


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Entries with the dotted path to each; an empty mapping is an entry too."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
