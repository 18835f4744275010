"""docs/hosts.md says of every host what its spec and the commands say."""

import re
import shlex
from pathlib import Path

import pytest
from host_table import HEADING, in_page, layouts
from host_table import PAGE as PATH

from mllm_adapters import convert, swap
from mllm_adapters.hosts.registry import HOSTS, OWN_HOSTS, get_host

PAGE = PATH.read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m mllm_adapters\.(swap|convert) (.*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", HOSTS)
def test_the_table_has_the_specs_checkpoint_and_the_page_its_commands(name: str) -> None:
    host = get_host(name)
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` | `"))
    assert f"`{host.checkpoint}`" in row
    assert ("plain transformers" in row) == bool(host.stock_towers)
    assert {command for command, options in COMMANDS if f"--model {name} " in f"{options} "} == {"swap", "convert"}
    assert all(f"{part}={hub}" in PAGE for part, hub in host.parts.items())


@pytest.mark.parametrize(("command", "options"), [each for each in COMMANDS if "$H" not in each[1]])
def test_every_command_is_one_that_exists(
    command: str, options: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    main = {"swap": swap.main, "convert": convert.main}[command]
    assert main(shlex.split(options)) == 1  # an unknown option would end it with 2
    said = capsys.readouterr().err
    assert "no such tower file" in said or "is neither in the cache nor to be had from the hub" in said


def test_what_is_tested_of_each_host_is_what_the_tests_say() -> None:
    """`PYTHONPATH=tests python tests/mllm_adapters/host_table.py` writes it anew."""
    assert in_page(PAGE) == PAGE
    assert PAGE.partition(HEADING)[2].count("✓") > 10 * len(OWN_HOSTS)


@pytest.mark.parametrize("name", OWN_HOSTS)
def test_a_layout_of_the_makers_has_a_test_that_takes_it_through_the_commands(name: str) -> None:
    tested = {host for host, _, _ in layouts()}
    assert (name in tested) == bool(get_host(name).makers_types or get_host(name).parts)
