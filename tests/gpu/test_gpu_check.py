"""The GPU check: each of its sections on a card where there is one, all of it on tiny shapes where there is none."""

import json
import math
from pathlib import Path

import pytest
import torch
from check import SECTIONS, main
from findings import at_most, holds, near, shown, table

NO_GPU = "torch sees no GPU here; the dry run of the check is test_the_whole_check_runs_on_tiny_shapes"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_on_the_card(section: str, tmp_path: Path) -> None:
    status = main(["--only", section, "--out", str(tmp_path / "found.json")])
    rows = json.loads((tmp_path / "found.json").read_text())["findings"]
    assert [row for row in rows if row["passed"] is False] == []
    assert status == 0


@pytest.mark.slow
def test_the_whole_check_runs_on_tiny_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every section comes to its end and yields rows; what can be judged without a card is right."""
    out = tmp_path / "found.json"
    assert main(["--tiny", "--device", "cpu", "--budget", "20", "--out", str(out)]) == 0
    kept = json.loads(out.read_text())
    assert {row["section"] for row in kept["findings"]} == set(SECTIONS)
    said = capsys.readouterr()
    printed = [line for line in said.out.splitlines() if line.startswith("| ")]
    assert len(printed) == 1 + len(kept["findings"])
    assert "nothing here is measured on a GPU" in printed[1]
    assert said.err.count("0 failed") == len(SECTIONS)
    assert kept["provenance"]["torch"] == torch.__version__.partition("+")[0]


@pytest.mark.slow
def test_a_section_that_runs_over_is_a_failed_row_and_the_next_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    budget = 1 / SECTIONS["hosts"][1]  # a second for `hosts`, which takes more, a third of one for `machine`
    assert main(["--tiny", "--device", "cpu", "--only", "machine,hosts", "--budget", str(budget)]) == 1
    rows = [line for line in capsys.readouterr().out.splitlines() if "ran over its time" in line]
    assert "| hosts | the whole section | ran over its time | 1 s | **FAILED** |" in rows


@pytest.mark.slow
def test_a_section_that_fails_is_a_failed_row_with_its_last_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("no manifest\n")
    words = ["--tiny", "--device", "cpu", "--budget", "20", "--only", "pretraining,machine", "--images", str(manifest)]
    assert main(words) == 1
    said = capsys.readouterr()
    rows = [line for line in said.out.splitlines() if line.startswith("| pretraining ")]
    assert len(rows) > 4, "what it had found before it failed stays"
    assert rows[-1].startswith("| pretraining | the whole section | ended with 1: error: ")
    assert str(manifest) in rows[-1]
    assert "| machine | a product on the device | 262,144 | 262,144 | ok |" in said.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cpu"], "a CPU is too slow for the real shapes: give --tiny with --device cpu"),
        (["--only", "hosts,speed"], "no section speed; there are machine, objective, hosts,"),
        (["--only", ","], "no section at all; there are machine, objective, hosts,"),
        (["--out", "table.txt"], "give a file that ends in .md or .json"),
        (["--images", "nowhere.jsonl"], "nowhere.jsonl: no such manifest"),
        (["--scratch", "nowhere"], "--scratch nowhere: no such folder"),
        (["--budget", "0"], "--budget 0.0: give a factor above 0"),
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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    assert capsys.readouterr().err == ("error: torch sees no GPU here; --tiny --device cpu is a dry run of the code\n")


def test_bounds() -> None:
    assert [at_most("", value, 1.0).passed for value in (0.5, 1.0, 1.1, math.nan)] == [True, True, False, False]
    assert [near("", value, 10.0, 0.15).passed for value in (8.4, 8.6, 11.4, 11.6, math.nan)] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert near("memory", 11.0, 10.0, 0.15, "GB").value == "11 GB (+10.0%)"
    rows = [shown("a | b", "1\n2"), holds("c", "3", "4", False)]
    assert table(rows).splitlines()[2:] == ["|  | a / b | 1 2 |  |  |", "|  | c | 3 | 4 | **FAILED** |"]
