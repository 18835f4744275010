"""SHA-256 of large files, kept beside them, so that gigabytes of weights are read for it once and not at every start.

`.sha256.json` in a file's folder holds each hash with the size, the times of change and the inode that the file had; in a folder
that cannot be written, the user's cache stands in. A file in which one of these differs is hashed anew, and so are copies that
brought somebody else's hashes along, because their inodes are others.
"""

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from mgll.files import sha256, write_text

NAME = ".sha256.json"
#: Bytes below which a file is hashed in no time, and no hash of it is kept.
SMALL = 16 * 2**20
#: Seconds that a file must have been left alone: two changes within a tick of the file system's clock have the same time.
SETTLED = 2.0


def kept_sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's bytes, as `mgll.files.sha256` gives it, read only if it has changed since it was last asked for.

    Raises:
        OSError: if there is no such file, or it is a pipe or a device.
    """
    file = Path(path).resolve()
    if not file.is_file() or file.stat().st_size < SMALL:
        return sha256(path)
    state, places = _state(file), (file.with_name(NAME), _in_cache(file.parent))
    for place in places:
        if (kept := _read(place).get(file.name)) and kept[0] == state:
            return kept[1]
    found = sha256(file)
    if _state(file) == state and time.time() - file.stat().st_ctime >= SETTLED:
        for place in places:
            with suppress(OSError):
                write_text(place, json.dumps(_read(place) | {file.name: (state, found)}, indent=1) + "\n")
                break
    return found


def _state(file: Path) -> list[int]:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _in_cache(folder: Path) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "mgll-graft" / "sha256" / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:24]}.json"


def _read(place: Path) -> dict[str, tuple[list[int], str]]:
    """The hashes that a file of ours holds; of anything else none."""
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        return {str(name): ([int(part) for part in state], str(digest)) for name, (state, digest) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
