"""The table of `make speed`: what fails or runs over is a row, and the others go on."""

import json
import math
from pathlib import Path

import pytest
from rows import at_least, at_most, not_measured, shown
from table import HERE, SCRIPTS, main, table

GOOD = """
from rows import at_least, shown
def rows():
    yield at_least("summing", "a loop", sum(range(200_000)) / 199_999_00_000, 1.0, "to the last digit")
    yield shown("two", "one", 2.0, command="python two.py --large")
"""
FAILS = """
from rows import at_most
def rows():
    yield at_most("half of it", "all of it", 3.0, 1.1)
    raise RuntimeError("the rival is ill")
"""
ENDLESS = """
import time
def rows():
    time.sleep(600)
    yield
"""


def test_a_script_that_fails_is_a_row_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, code in {"fails": FAILS, "good": GOOD}.items():
        Path(f"{name}.py").write_text(code)
    assert main(["fails.py", "good.py", "--out", "found.json"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [[row[i] for i in (0, 1, 2, 3, 4, 6)] for row in cells] == [
        ["half of it", "all of it", "at most 1.1 x", "3 x", "**not met**", "`python fails.py`"],
        [
            "fails",
            "its budget",
            "at most 60 s",
            f"not measured; {cells[1][3][14:]}",
            "**not met**",
            "`python fails.py`",
        ],
        ["summing", "a loop", "at least 1 x", "1 x; to the last digit", "met", "`python good.py`"],
        ["two", "one", "", "2 x", "", "`python two.py --large`"],
    ]
    assert cells[1][3].endswith("ended with 1: RuntimeError: the rival is ill")
    kept = json.loads(Path("found.json").read_text())
    assert [row["measured"] for row in kept["rows"]] == [3.0, None, 1.0, 2.0]
    assert all(row["others"] >= 0 for row in kept["rows"] if row["measured"])
    assert kept["processor"].endswith("cores")
    assert kept["provenance"]["python"]


def test_a_script_that_runs_over_or_finds_nothing_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scripts = {"endless.py": ENDLESS, "silent.py": "rows = list\n"}
    for name, code in scripts.items():
        (tmp_path / name).write_text(code)
    assert main([*(str(tmp_path / name) for name in scripts), "--seconds", "2", "--out", str(tmp_path / "t.md")]) == 1
    said = capsys.readouterr().out
    assert "| endless | its budget | at most 2 s | not measured; ran over its time | **not met** |" in said
    assert "| silent | its budget | at most 2 s | not measured; ended without a row | **not met** |" in said
    assert (tmp_path / "t.md").read_text() == said


def test_every_script_has_its_budget_and_all_fit_into_a_quarter_of_an_hour() -> None:
    scripts = {
        path.stem: path.read_text(encoding="utf-8") for path in HERE.glob("*.py") if path.name != Path(__file__).name
    }
    having = {name for name, code in scripts.items() if "\ndef rows(" in code}
    assert having == set(SCRIPTS)
    assert sum(SCRIPTS.values()) <= 15 * 60


def test_the_machine_is_said_to_be_busy_where_one_row_saw_others() -> None:
    calm = at_least("a", "b", 1.0, 1.0)
    assert "0.0 to 0.0 meanwhile: an idle machine." in table([_seen(calm, 0.0)], 0.0)
    assert "0.0 to 5.0 meanwhile: **not an idle machine**." in table([_seen(calm, 0.0), _seen(calm, 5.0)], 0.0)
    assert "**not an idle machine**" in table([_seen(calm, 0.0)], 50.0)


def _seen(row, others):
    return type(row)(**{**vars(row), "others": others})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "report,flying"], "no section flying; there are "),
        (["--out", "table.txt"], "give a file that ends in .md or .json"),
        (["nowhere.py"], "nowhere.py: no such script"),
        (["--budget", "0"], "--budget 0.0: give a number above 0"),
        (["--seconds", "nan"], "--seconds nan: give a number above 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_wrong_word_ends_in_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    found = capsys.readouterr()
    assert not found.out
    (line,) = found.err.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_rows() -> None:
    assert [at_least("", "", value, 1.2).met for value in (1.2, 1.19, math.nan)] == [True, False, False]
    assert [at_most("", "", value, 1.1).met for value in (1.1, 1.11, math.nan)] == [True, False, False]
    assert shown("a", "b", 2.0).met is None
    assert str(at_most("a report", "nobody", 6.5, 5, "12 MB", "s")) == (
        "a report / nobody: 6.5 s; 12 MB (goal at most 5 s: NOT met)"
    )
    assert str(not_measured("a", "b", "b is not installed")) == "a / b: not measured; b is not installed"
