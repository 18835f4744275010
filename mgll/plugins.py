"""Hosts, readers, scorers and encoders of other packages, found by their entry points: to add one, nothing here is edited.

A distribution names them in its pyproject.toml:

    [project.entry-points."mgll_graft.readers"]
    our-clinic = "our_package.reader:main"

`docs/plug_ins.md` says what each kind must be.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

Kind = Literal["hosts", "readers", "scorers", "encoders"]


def plugins(kind: Kind) -> dict[str, EntryPoint]:
    """The installed plug-ins of one kind by name, none of them imported yet.

    Raises:
        ValueError: if two distributions have one of the same name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"mgll_graft.{kind}"):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise ValueError(
                f"two plug-ins in mgll_graft.{kind} are called {entry.name!r}, of {_origin(other)} and of {_origin(entry)};"
                " uninstall one"
            )
    return found


def load_plugin(entry: EntryPoint) -> Any:
    """What an entry point names, imported.

    Raises:
        ValueError: if it cannot be imported; the message names the plug-in and its distribution.
    """
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"the plug-in {entry.name} of {_origin(entry)} ({entry.value}) cannot be imported: {error}"
        ) from error


def _origin(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value.partition(":")[0]
