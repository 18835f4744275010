"""How a command ends: whatever can be expected to go wrong is said in one line, with a non-zero exit status."""

import os
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from functools import wraps
from typing import ParamSpec

from mgll.flags import as_typed
from mgll.formats import one_line
from mgll.quiet import quiet

Arguments = ParamSpec("Arguments")

#: What is wrong with an input, a file, the machine or its memory. Anything else is a mistake of this program, and shows where.
EXPECTED = (ValueError, OSError, MemoryError, RecursionError, BrokenExecutor)
#: Set to anything, this environment variable shows where an expected error came from too.
TRACEBACK = "MGLL_TRACEBACK"


def ends_in_one_line(main: Callable[Arguments, int | None]) -> Callable[Arguments, int]:
    """Decorate the function of a command, so that it returns an exit status whatever is wrong with its input.

    An expected error is printed on standard error as `error: ...` and gives 1, Ctrl-C gives 130. A reader that closed its end of a
    pipe, as `head` does, is no error. What the decorated function wrote before stays.
    """

    @wraps(main)
    def command(*arguments: Arguments.args, **options: Arguments.kwargs) -> int:
        quiet()
        try:
            return main(*arguments, **options) or 0
        except KeyboardInterrupt:
            print("\nstopped", file=sys.stderr)
            return 130
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at its end
            return 0
        except Exception as error:
            if not _is_expected(error):
                raise
            if os.environ.get(TRACEBACK):
                traceback.print_exc()
            print(f"error: {as_typed(one_line_of(error))}", file=sys.stderr)
            return 1

    return command


def _is_expected(error: Exception) -> bool:
    # torch's error of a full GPU is a RuntimeError; naming its type would take the seconds that importing torch takes. That of a
    # link to itself is one too, before Python 3.13, and that of a process for reading images that the system has killed.
    return (
        isinstance(error, EXPECTED)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and str(error).startswith(("Symlink loop", "DataLoader worker (pid")))
    )


def one_line_of(error: Exception) -> str:
    """What an error says, in one line."""
    if isinstance(error, RecursionError):
        return "an input is nested more deeply than any file of this kind should be"
    if isinstance(error, MemoryError):
        return (
            f"the memory is full; {one_line(_own_words(error)) or 'take smaller batches or images, or fewer workers'}"
        )
    return one_line(_own_words(error)) or type(error).__name__


def _own_words(error: Exception) -> str:
    """What an error says, without Python's number of it, or the traceback that a worker of the image reader hands on with it."""
    if isinstance(error, FileExistsError | NotADirectoryError) and error.filename:
        return f"{error.filename}: a file stands where a folder is needed; name another"
    if type(error).__module__ == "builtins" and isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror[:1].lower()}{error.strerror[1:]}"
    said = str(error).strip()
    return said.splitlines()[-1] if "Original Traceback" in said else said
