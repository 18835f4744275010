"""Cells of a grid: a failure stays in its cell, and a cell that another process holds is waited for or refused."""

import threading
import time
from pathlib import Path

import launches
import pytest

from mgll.cells import failure, own_turn, run_cells
from mgll.run_folder import FolderInUseError

#: Holds the turn of a cell until a file appears.
HOLD = """
import sys, time
from pathlib import Path
from mgll.cells import own_turn
with own_turn(Path(sys.argv[1])):
    Path(sys.argv[1] + ".held").touch()
    while not Path(sys.argv[1] + ".free").exists():
        time.sleep(0.01)
"""


def test_a_failure_stays_in_its_cell_until_the_cell_is_made(tmp_path: Path) -> None:
    cells, made = [tmp_path / "grid" / name for name in "abc"], []

    def make(number: int) -> None:
        if number == 1:
            raise RuntimeError("the GPU\nis tired")
        made.append(number)

    run_cells(cells, make)
    assert made == [0, 2]
    assert [failure(cell) for cell in cells] == [None, "the GPU is tired", None]
    assert "Traceback" in (tmp_path / "grid" / "b.failed.txt").read_text()
    run_cells(cells, made.append)
    assert made == [0, 2, 0, 1, 2]
    assert [failure(cell) for cell in cells] == [None] * 3
    assert list((tmp_path / "grid").iterdir()) == []  # neither locks nor notes are left behind


def test_ctrl_c_is_no_failure_of_a_cell(tmp_path: Path) -> None:
    def make(number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cells([tmp_path / "a", tmp_path / "b"], make)
    assert failure(tmp_path / "a") is None


@pytest.mark.slow
def test_a_cell_that_another_process_holds_comes_last_or_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells, made = [tmp_path / name for name in "ab"], []
    holder = launches.start(["-c", HOLD, cells[0]], tmp_path / "said")
    while not Path(f"{cells[0]}.held").exists():
        time.sleep(0.01)
    with pytest.raises(FolderInUseError, match=f"in use by process {holder.pid}"):
        run_cells(cells[:1], made.append, wait=False)
    assert made == []
    threading.Timer(0.5, Path(f"{cells[0]}.free").touch).start()
    run_cells(cells, made.append)
    assert made == [1, 0]
    holder.join()
    with own_turn(cells[0]):
        pass
    assert "waiting for" not in capsys.readouterr().err
