"""Writing files so that a kill at any moment leaves either the old file or the new one."""

import errno
import hashlib
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it is fsynced and renamed onto `target`.

    The block may create a file, or a directory, which takes the place of an older one with all that is in it.
    An exception removes what was written and leaves `target` as it was. What killed processes left in the folder is removed the
    first time that this process writes there. Whichever library writes, others may read what the umask lets them read.

    Raises:
        IsADirectoryError: where a file would take the place of a directory.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target.parent.resolve())
    temporary = target.with_name(f".{target.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        yield temporary
        _share_tree(temporary)
        _fsync_tree(temporary)
        if target.is_dir() and not temporary.is_dir():
            raise IsADirectoryError(
                errno.EISDIR, "this is a folder, which no file takes the place of; name a file", str(target)
            )
        if target.is_dir():
            shutil.rmtree(target)
        temporary.replace(target)
        _fsync(target.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@cache  # a folder of thousands of images is searched once by a process, not before each image
def _remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of `atomic_path` in a folder whose processes were killed, and say so on standard error.

    Files of other machines stay, because only there it is known whether their process still runs.
    """
    own = re.compile(rf"\..+\.{re.escape(socket.gethostname())}-(\d+)\.tmp")
    for left in sorted(folder.glob(".*-*.tmp")):
        made_by = own.fullmatch(left.name)
        if made_by and not _is_running(int(made_by[1])):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
            print(f"{left}: removed; process {made_by[1]} was killed while it wrote this", file=sys.stderr)


def _is_running(process: int) -> bool:
    """Whether another process has this number; this one has written nothing yet when it asks."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")


def sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces.

    Raises:
        OSError: if there is no such file, or it is a pipe or a device, which may have no end.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise OSError(errno.EINVAL, "Not a plain file", str(path))
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's bytes, or of the names and bytes of all files below a folder but the hidden ones."""
    path = Path(path)
    if not path.is_dir():
        return sha256(path)
    names = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
    kept = sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))
    return hashlib.sha256("".join(f"{name}\0{sha256(path / name)}\n" for name in kept).encode()).hexdigest()


def _share_tree(path: Path) -> None:
    """Give files and folders that only their owner may read, as safetensors and `tempfile` make them, the rights of any new one.

    Hard links stay as they are: they are other people's files.
    """
    entries = [path, *path.rglob("*")] if path.is_dir() else [path]
    stats = [(entry, entry.lstat()) for entry in entries]
    private = [(entry, stat) for entry, stat in stats if not stat.st_mode & 0o077 and not entry.is_symlink()]
    if not private:
        return
    usual = _usual_rights(path.parent)
    for entry, stat in private:
        folder = entry.is_dir()
        rights = usual | (usual & 0o444) >> 2 if folder else usual
        if (folder or stat.st_nlink == 1) and stat.st_mode & 0o777 != rights:
            entry.chmod(rights)


def _usual_rights(folder: Path) -> int:
    """The rights that a new file gets in a folder: those of the umask, or those of the folder's own list.

    Asking the system for the umask would change it for a moment, for all threads.
    """
    probe = folder / f".rights.{socket.gethostname()}-{os.getpid()}.tmp"
    descriptor = os.open(probe, os.O_CREAT | os.O_WRONLY, 0o666)
    try:
        return os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)
        probe.unlink()


def _fsync_tree(path: Path) -> None:
    for entry in path.rglob("*") if path.is_dir() else ():
        _fsync(entry)
    _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
