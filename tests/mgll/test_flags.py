"""`mgll NAME` as a caller in the same process meets it."""

import sys

import pytest

from mgll.__main__ import main as mgll
from mgll.flags import as_typed, names_of, typed, typed_as
from mgll.readers.__main__ import main as read


@pytest.mark.parametrize("command", [lambda: mgll(["swap", "--help"]), lambda: read(["folder_csv", "--help"])])
def test_a_caller_gets_its_own_words_back(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.argv
    with pytest.raises(SystemExit):
        command()  # type: ignore[operator]
    assert "usage: mgll " in capsys.readouterr().out
    assert sys.argv is before
    assert typed_as() is None
    assert as_typed("python -m mllm_adapters.swap") == "python -m mllm_adapters.swap"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("python recipes/table2.py --cells   # all", "mgll table2 --cells   # all"),
        ("merge with `python -m mgll.manifest group A --out B`", "merge with `mgll manifest group A --out B`"),
        ("python -m\n  mgll.manifest.shards X", "mgll shards X"),
        ("towers as for `recipes/table2.py`", "towers as for `mgll table2`"),
        (
            "accelerate launch --num_processes 2 \\\n  recipes/table2.py",
            "accelerate launch --num_processes 2 \\\n  -m mgll table2",
        ),
        (
            "/home/me/recipes/table2.py, recipes/configs/table2.yaml",
            "/home/me/recipes/table2.py, recipes/configs/table2.yaml",
        ),
        ("python -m mgll.manifests", "python -m mgll.manifests"),
    ],
)
def test_whoever_types_mgll_is_shown_commands_of_mgll(said: str, shown: str) -> None:
    modules = {"table2": "recipes.table2", "manifest": "mgll.manifest.__main__", "shards": "mgll.manifest.shards"}
    with typed("mgll swap", [], names_of(modules)):
        assert as_typed(said) == shown
    assert as_typed(said) == said
