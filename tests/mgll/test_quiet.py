"""What a user sees of a command: our own words and bars, and none of the libraries'."""

import subprocess
import sys
from pathlib import Path

import launches
import pytest

from mgll.progress import overall
from mgll.synthetic import generate

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_pretraining_says_nothing_of_its_libraries(tmp_path: Path) -> None:
    manifest = generate(tmp_path / "eyes", 40, seed=0, size=32, workers=1, progress=False)
    tiny = ["--encoder", "vit-nano-16", "--image-size", "32", "--epochs", "1", "--batch-size", "16"]
    done = launches.run([ROOT / "recipes/pretrain_mgll.py", "--manifest", manifest, "--out", tmp_path / "run", *tiny])
    assert done.returncode == 0
    lines = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.strip()]
    assert [line for line in lines if not line.startswith("mgll:")] == []


WARN = """
import warnings
from mgll.quiet import quiet
quiet()
warnings.warn_explicit("will change", UserWarning, "x.py", 1, module="transformers.models")
warnings.warn_explicit("will change", FutureWarning, "x.py", 1, module="anything")
warnings.warn_explicit("two files\\nare cut", UserWarning, "x.py", 1, module="mgll.encoders.tokens")
"""


def test_warnings_of_our_own_are_one_line_and_those_of_libraries_none() -> None:
    said = subprocess.run([sys.executable, "-c", WARN], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == ("", "warning: two files are cut\n")


def test_time_left_is_reckoned_from_the_steps_of_this_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(
        [0.0, 0.0, 0.01, 100.0, 300.0]
    )  # made; began four steps: the first was done before, then 100 s, then 200 s
    monkeypatch.setattr("mgll.progress.time.monotonic", lambda: next(clock))
    say = overall(4)
    for step in ("a", "b", "c", "d"):
        say(step)
    assert capsys.readouterr().err.splitlines() == [
        "[1 of 4] a",
        "[2 of 4] b",
        "[3 of 4, about 3 min left] c",
        "[4 of 4, about 2 min left] d",
    ]
