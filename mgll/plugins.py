"""Hosts, readers, scorers and encoders of other packages, found by their entry points: to add one, nothing here is edited.

A distribution names them in its pyproject.toml:

    [project.entry-points."mgll_graft.readers"]
    our-clinic = "our_package.reader:main"

`docs/plug_ins.md` says what each kind must be.
"""

import warnings
from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

Kind = Literal["hosts", "readers", "scorers", "encoders"]


def plugins(kind: Kind, own: Collection[str] = ()) -> dict[str, EntryPoint]:
    """The installed plug-ins of one kind by name, none of them imported yet.

    A name that is `own`, or that another distribution has taken, is left out with a warning.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"mgll_graft.{kind}"):
        if entry.name in own:
            warnings.warn(
                f"{_said(entry)} is left out: the package has a {kind[:-1]} of that name itself", stacklevel=2
            )
        elif (other := found.setdefault(entry.name, entry)).value != entry.value:
            warnings.warn(f"{_said(entry)} is left out: {_said(other)} has that name too", stacklevel=2)
    return found


def load_plugin(entry: EntryPoint) -> Any:
    """What an entry point names, imported.

    Raises:
        ValueError: if it cannot be imported; the message names the plug-in and its distribution.
    """
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{_said(entry)} cannot be imported: {error}") from error


def _said(entry: EntryPoint) -> str:
    return f"the plug-in {entry.name} of {entry.dist.name if entry.dist else 'an unknown package'} ({entry.value})"
