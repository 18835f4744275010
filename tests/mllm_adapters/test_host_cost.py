"""What fine-tuning takes by ZeRO stage: DeepSpeed's estimate of what is trained, and frozen weights where they really lie."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from mllm_adapters.checkpoints.tensors import read_checkpoint
from mllm_adapters.host_cost import OVERHEAD, ZERO, HostCost, main, zero_memory

COST = HostCost(
    parameters=7e9,
    image_tokens=576,
    counted=False,
    trained=7e7,
    item=2,
    largest=1e8,
    activations=8e9,
    operations=1.0,
    disk=1.0,
)


def test_one_gpu_without_zero_is_the_memory_of_the_host() -> None:
    assert zero_memory(COST, 1, 0, False) == (pytest.approx(COST.memory), 0)


@pytest.mark.parametrize(("stage", "offload"), ZERO[1:])
def test_what_is_trained_takes_what_deepspeed_says(stage: int, offload: bool) -> None:
    pytest.importorskip("deepspeed", reason="the extra `deepspeed` is not installed")
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as zero3
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as zero2

    whole = replace(COST, trained=COST.parameters, item=0, activations=0.0)
    options = {"cpu_offload": offload, "num_gpus_per_node": 8}
    if stage == 2:
        machine, gpu = zero2(COST.parameters, **options)
    else:
        machine, gpu, _ = zero3(COST.parameters, COST.largest, cpu_offload_params=offload, **options)
    assert zero_memory(whole, 8, stage, offload) == (pytest.approx(gpu + OVERHEAD), pytest.approx(machine))


@pytest.mark.parametrize(("stage", "offload"), ZERO)
def test_frozen_weights_are_whole_split_or_in_the_machines_memory(stage: int, offload: bool) -> None:
    if stage:
        pytest.importorskip("deepspeed", reason="the extra `deepspeed` is not installed")
    more = replace(COST, parameters=COST.parameters + 1e9)
    gpu, machine = (
        after - before
        for before, after in zip(
            zero_memory(COST, 8, stage, offload), zero_memory(more, 8, stage, offload), strict=True
        )
    )
    offloaded = stage == 3 and offload
    assert gpu == pytest.approx(0 if offloaded else 2e9 / 8 if stage == 3 else 2e9)
    assert machine == pytest.approx(2e9 if offloaded else 0)


def test_the_command_counts_a_checkpoint_or_says_what_it_lacks(
    host_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("deepspeed", reason="the extra `deepspeed` is not installed")
    assert main(["--model", "llava", "--checkpoint", str(host_directory), "--gpus", "2"]) == 0
    said = capsys.readouterr().out
    count = sum(math.prod(part.shape) for part in read_checkpoint(host_directory).values())
    assert f"{count / 1e9:.2f} B parameters, 9 image tokens (counted)" in said
    assert len(said.strip().splitlines()) == 4 + len(ZERO)
    assert main(["--model", "llava"]) == 1
    assert "state its `parameters` and `image_tokens`" in capsys.readouterr().err
    assert main(["--model", "llava", "--gpus", "0"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
