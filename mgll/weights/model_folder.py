"""A folder of weights and JSON files as somebody else made it: what in it may be opened. Imports no torch."""

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mgll.formats import FormatError


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        FormatError: if there is no such file, or it holds anything else; NaN and Infinity are no JSON.
    """
    if not path.is_file():
        raise FormatError(path.parent, None, f"no {path.name} in it: not a model directory")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise FormatError(path, None, "not JSON that a model comes with (nested too deeply)") from None
    except ValueError as error:
        raise FormatError(path, None, f"not JSON ({error})") from None
    if not isinstance(content, dict):
        raise FormatError(path, None, "not a JSON object")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, which is no number")


def check_entries(folder: Path, follow_links: bool = False) -> None:
    """Check that everything in a folder is a file or a folder, and that no symbolic link leads out of it.

    In a snapshot of the hub's cache, links to the `blobs` of this cache are what they should be. Hidden files are never read, and
    not checked either.

    Args:
        folder: the folder.
        follow_links: accept links to files outside, with a warning that names them.

    Raises:
        FormatError: naming the entries that are none of these.
    """
    inside = [folder.resolve(), *_blobs(folder.resolve())]
    strange, leaving = [], []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or not path.exists():
            continue
        target = path.resolve()
        if not (target.is_file() or target.is_dir()):
            strange.append(str(name))
        elif path.is_symlink() and not any(target.is_relative_to(place) for place in inside):
            if target.is_dir():
                strange.append(f"{name}, a link to a folder")
            else:
                leaving.append(f"{name} -> {target}")
    if strange:
        raise FormatError(
            folder, None, f"neither a file nor a folder: {_some(strange)}; such an entry is never opened: remove it"
        )
    if leaving and follow_links:
        warnings.warn(
            f"{folder}: {len(leaving)} links that lead out of it are followed: {_some(leaving)}", stacklevel=2
        )
    elif leaving:
        raise FormatError(
            folder,
            None,
            f"links that lead out of the folder: {_some(leaving)}; copy these files into it, or give --follow-links to"
            " mllm_adapters.swap or mllm_adapters.convert, which write a folder without links",
        )


def _blobs(snapshot: Path) -> Iterable[Path]:
    """Where the files of a snapshot in the hub's cache lie: with its repository, or with all of the cache."""
    if snapshot.parent.name == "snapshots" and snapshot.parents[1].name.startswith("models--"):
        yield (snapshot.parents[1] / "blobs").resolve()
        yield (snapshot.parents[2] / "blobs").resolve()


def indexed_files(index: Path) -> tuple[list[Path], set[str]]:
    """The files of weights that an index names, and the names of the tensors that it promises.

    Raises:
        FormatError: if it is no index, names a file outside of its folder, or one that is missing.
    """
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise FormatError(index, None, 'not a JSON object with a "weight_map" of file names')
    names = sorted(set(weight_map.values()))
    outside = [name for name in names if "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts]
    if outside:
        raise FormatError(index, None, f"names files outside of its folder, which are never read: {_some(outside)}")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise FormatError(
            index.parent,
            None,
            f"{len(missing)} of {len(names)} shards are missing: {_some(missing)}; download it again",
        )
    return [index.parent / name for name in names], set(weight_map)


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
