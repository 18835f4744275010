"""The cells of a grid: each is made once, by whichever process comes to it first, and a failure stays in its cell.

Any number of processes may work on the same grid on the same file system: each takes the next cell that nobody holds. What a cell
is made of, and whether it is finished, is its own affair (`mgll.stage`); here is only whose turn it is, and what went wrong.
"""

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tqdm import tqdm

from mgll.ending import one_line_of
from mgll.files import write_text
from mgll.run_folder import FolderInUseError, locked

#: Seconds between two looks at what another process holds.
PAUSE = 2.0


@contextmanager
def own_turn(path: Path) -> Iterator[None]:
    """Hold a file or folder that several processes may want to make; waits, however long, while another one makes it."""
    with ExitStack() as held:
        said = False
        while True:
            try:
                held.enter_context(locked(_turn(path)))
                break
            except FolderInUseError as error:
                if not said:
                    print(f"waiting for {path} ({error})", file=sys.stderr, flush=True)
                said = True
                time.sleep(PAUSE)
        yield


def run_cells(cells: Sequence[Path], make: Callable[[int], object], wait: bool = True) -> None:
    """Make cells, each in its turn. What goes wrong in one is written beside it (`failure`), and the others go on.

    Args:
        cells: the folder of each.
        make: makes the cell of this number, going on where it was; nothing to do where it is finished.
        wait: whether to come back to cells that another process holds; without it such a cell is refused.

    Raises:
        FolderInUseError: without `wait`, for a cell that another process holds.
    """
    waiting = list(range(len(cells)))
    with tqdm(total=len(cells), desc="cells", unit="cell") as bar:
        while waiting:
            for number in tuple(waiting):
                try:
                    with locked(_turn(cells[number])):
                        _run(cells[number], make, number)
                except FolderInUseError:
                    if not wait:
                        raise
                    continue
                waiting.remove(number)
                bar.update()
            if waiting:
                time.sleep(PAUSE)


def failure(cell: Path) -> str | None:
    """What went wrong when this cell was last tried, in one line; None where nothing did."""
    note = _note(cell)
    return note.read_text(encoding="utf-8").partition("\n")[0] if note.is_file() else None


def _run(cell: Path, make: Callable[[int], object], number: int) -> None:
    try:
        make(number)
    except Exception as error:  # whatever it is: the other cells don't depend on it
        said = one_line_of(error)
        write_text(_note(cell), f"{said}\n\n{traceback.format_exc()}")
        tqdm.write(f"{cell} failed: {said} (all of it: {_note(cell)})", file=sys.stderr)
    else:
        _note(cell).unlink(missing_ok=True)


def _note(cell: Path) -> Path:
    return cell.with_name(f"{cell.name}.failed.txt")


def _turn(path: Path) -> Path:
    return path.with_name(f"{path.name}.turn")
