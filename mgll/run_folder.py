"""A run's folder belongs to that run: another one is refused before it writes a byte."""

import fcntl
import json
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mgll.files import write_text
from mgll.formats import FormatError

LOCK = ".lock"


class FolderInUseError(ValueError):
    """Another process holds a folder; the message names it."""


@contextmanager
def locked(out: str | os.PathLike[str], by_this_process: bool = True) -> Iterator[None]:
    """Keep a folder to this process until the block ends, so that no second run writes into it at the same time.

    The lock is POSIX's `lockf` of a file in the folder, which says whose it is. It ends with the process, however that ends, and
    processes that this one forks do not inherit it (as they would `flock`, which well-known packages use). On a file system
    without locks a sentence on standard error says so, and the block runs.

    Args:
        out: the folder; made where it is missing.
        by_this_process: False in all processes of a run but the one that keeps the folder for them.

    Raises:
        FolderInUseError: if another process holds the folder; the message names process and machine.
    """
    if not by_this_process:
        yield
        return
    path = Path(out) / LOCK
    is_new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise FolderInUseError(f"{out} is in use by {holder}; wait for it, or choose another folder") from None
        except OSError as error:
            print(f"{out}: no lock can be had here ({error}); start no second run in it", file=sys.stderr)
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            break
        file.close()  # its last holder deleted it after this process had opened it
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            if is_new and not any(path.parent.iterdir()):
                path.parent.rmdir()  # nothing was begun


def claim_folder(
    out: Path,
    name: str,
    run: Mapping[str, Any],
    begun: bool,
    what: str,
    beside: Mapping[str, Any] | None = None,
) -> None:
    """Write what a run is made of into its folder, or refuse the folder of another run.

    Args:
        out: the folder.
        name: the JSON file in it that holds `run`.
        run: all that decides the result; entries may be nested.
        begun: whether the folder holds work of a run already, which must then be this one.
        what: the work in words, for the message: "checkpoints of another run".
        beside: further entries of the file, in which a resumed run may differ.

    Raises:
        FormatError: if there is work in the folder and no readable `name` that says whose it is.
        ValueError: if it is another run's; the message lists what differs.
    """
    path = out / name
    if begun:
        refuse_another_run(out, read_run(path, what), run, what)
    write_text(path, json.dumps({**run, **(beside or {})}, indent=2) + "\n")


def refuse_another_run(out: Path, old: Mapping[str, Any], new: Mapping[str, Any], what: str) -> None:
    """Compare the entries of `new` with those of the run that the folder holds.

    Raises:
        ValueError: if one differs; the message names the first six with both values.
    """
    changed = differences({key: old.get(key) for key in new}, new)
    if changed:
        raise ValueError(f"{out} holds {what} ({'; '.join(changed)}); choose another --out or remove the folder")


def differences(old: Mapping[str, Any], new: Mapping[str, Any], most: int = 6) -> list[str]:
    """What differs between two runs, entry by entry with both values, of two hashes that they differ; after `most` the number.

    Args:
        old: what the one is made of; entries may be nested.
        new: what the other is made of.
        most: number of differences that are spelled out.
    """
    before, after = (dict(_flat(_as_stored(run))) for run in (old, new))
    names = [*after, *(key for key in before if key not in after)]
    changed = [_changed(key, before.get(key), after.get(key)) for key in names if before.get(key) != after.get(key)]
    return changed[:most] + ([f"and {len(changed) - most} more"] if len(changed) > most else [])


def _changed(key: str, old: object, new: object) -> str:
    if all(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in (old, new)):
        return f"{key.removesuffix('_sha256')}: another content"
    return f"{key}: {old!r} -> {new!r}"


def read_run(path: Path, what: str) -> dict[str, Any]:
    """What a run's JSON file says it is made of.

    Raises:
        FormatError: if there is no such file, or it cannot be read; the message says of `what`.
    """
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
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
