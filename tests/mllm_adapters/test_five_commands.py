"""Every host in the layout of its class, through the documented commands as they are typed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from five_commands import five_commands

from benchmark.predictions.file import read_run
from mllm_adapters.contract.finetune_record import read_finetune
from mllm_adapters.contract.graft_record import read_graft
from mllm_adapters.hosts.registry import HOSTS, get_host
from mllm_adapters.loading.load import load


@pytest.mark.slow_except("llava")
@pytest.mark.parametrize("name", HOSTS)
def test_every_host_through_the_documented_commands(
    name: str, hosts: Callable[[str], Path], donor: Path, cases: Path, photographs: list[Path], tmp_path: Path
) -> None:
    done = five_commands(name, hosts(name), donor, cases, photographs[0], tmp_path)
    assert load(done.converted).host is get_host(name)
    assert [read_graft(folder).host for folder in (done.converted, done.grafted)] == [name, name]
    assert read_finetune(done.tuned).run.steps == 1
    assert len(read_run(done.scores).predictions) == 4
