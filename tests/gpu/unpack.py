"""Checks the parts beside this file and unpacks them; needs nothing but Python.

python unpack.py FOLDER     # new or empty
"""

import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Unpack, or say in one line why not."""
    try:
        if len(sys.argv) != 2:
            raise ValueError("give one folder, new or empty: python unpack.py FOLDER")
        listed = _listed()
        _check(listed["parts"])
        unpack(listed["parts"], Path(sys.argv[1]))
    except (OSError, ValueError, tarfile.TarError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"{sys.argv[1]}: {len(listed['parts'])} parts, whole; code of commit {listed['commit']}")
    for name, count in listed["content"].items():
        print(f"  {name}/: {count} files")
    return 0


def _listed() -> dict:
    """The list of parts.

    Raises:
        ValueError: if it is not there, or cannot be read.
    """
    path = HERE / "parts.json"
    if not path.is_file():
        raise ValueError(f"{path}: the list of parts is missing; bring it beside unpack.py")
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        if not {"parts", "commit", "content"} <= listed.keys() or not listed["parts"]:
            raise ValueError
        return listed
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"{path}: damaged; bring it again") from None


def _check(parts: list[dict]) -> None:
    """Compare size and SHA-256 of every part before a byte is unpacked.

    Raises:
        ValueError: naming every part that is missing or damaged.
    """
    missing = [part["name"] for part in parts if not (HERE / part["name"]).is_file()]
    damaged = [part["name"] for part in parts if part["name"] not in missing and not _is_whole(part)]
    wrong = [f"{what} {', '.join(names)}" for what, names in (("missing:", missing), ("damaged:", damaged)) if names]
    if wrong:
        count = len(missing) + len(damaged)
        raise ValueError(
            f"{count} of {len(parts)} parts in {HERE} cannot be used; bring them again; {'; '.join(wrong)}"
        )


def _is_whole(part: dict) -> bool:
    path = HERE / part["name"]
    if path.stat().st_size != part["bytes"]:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == part["sha256"]


class _Chain(io.RawIOBase):
    """Files, one after the other, as one."""

    def __init__(self, paths: list[Path]) -> None:
        self._files: Iterator = (path.open("rb") for path in paths)
        self._file = next(self._files)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not (count := self._file.readinto(buffer)):
            self._file.close()
            following = next(self._files, None)
            if following is None:
                return 0
            self._file = following
        return count


def unpack(parts: list[dict], out: Path) -> None:
    """Unpack parts that have been checked.

    Raises:
        ValueError: if the folder holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty; give another folder")
    out.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BufferedReader(_Chain([HERE / part["name"] for part in parts])), mode="r|") as archive:
        archive.extractall(out, filter="data")


if __name__ == "__main__":
    sys.exit(main())
