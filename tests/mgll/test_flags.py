"""`mgll NAME` as a caller in the same process meets it."""

import sys

import pytest

from mgll.__main__ import main as mgll
from mgll.flags import next_command, typed_as
from mgll.readers.__main__ import main as read


@pytest.mark.parametrize("command", [lambda: mgll(["swap", "--help"]), lambda: read(["folder_csv", "--help"])])
def test_a_caller_gets_its_own_words_back(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.argv
    with pytest.raises(SystemExit):
        command()  # type: ignore[operator]
    assert "usage: mgll " in capsys.readouterr().out
    assert sys.argv is before
    assert typed_as() is None
    assert next_command("swap", "-m mllm_adapters.swap") == "python -m mllm_adapters.swap"
