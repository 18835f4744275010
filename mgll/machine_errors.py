"""Errors of the machine, which stop a command, told from those of a file, which make it a damaged one.

A full disk, a file that may not be read, a failing drive or too little memory say nothing about an image. If they were counted as
damage, a data set would shrink without a word.
"""

import errno
import os
from concurrent.futures import BrokenExecutor

#: What the system answers where the path or the content is wrong: a decoder that follows a damaged offset seeks to nowhere.
_OF_THE_FILE = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
    errno.EOVERFLOW,
    errno.ESPIPE,
}


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error is the machine's. Decoders raise `OSError` too, but without the system's number."""
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in _OF_THE_FILE
    return isinstance(error, MemoryError | BrokenExecutor)  # the system has killed a worker process


def stop_if_of_the_machine(error: BaseException, path: str | os.PathLike[str]) -> None:
    """Raise `error`, with the path at which it happened, if it is the machine's; return if it is the file's."""
    if isinstance(error, MemoryError):
        raise MemoryError(f"{error}: {os.fspath(path)}" if str(error) else os.fspath(path)) from None
    if is_of_the_machine(error):
        raise named(error, path) if isinstance(error, OSError) else error


def named(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """The system's error with the path at which it happened, which that of a read lacks."""
    if error.errno is not None and error.filename is None:
        error.filename = os.fspath(path)
    return error
