"""Fine-tuned directories whose adapter is not that of the run: `load` refuses them in one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mgll.formats import FormatError
from mllm_adapters import ask
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.loading.load import load
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

ADAPTER, TENSORS, RECORD = "adapter_config.json", "adapter_model.safetensors", "finetune.json"
DEEP = '{"a": ' + "[" * 200_000 + "]" * 200_000 + "}"


@pytest.fixture(scope="module")
def tuned_once(host_directory: Path, photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    questions = [TrainingQuestion(path, f"What is {i}?", "ABCD"[i % 4]) for i, path in enumerate(photographs)]
    settings = FinetuneSettings(rank=2, alpha=4.0, batch_size=4, steps=1)
    return finetune(host_directory, questions, tmp_path_factory.mktemp("tuned") / "run", settings)


@pytest.fixture
def tuned(tuned_once: Path) -> Path:
    copy = tuned_once.parent / "copy"  # beside it, because the base is named relative to the run
    shutil.rmtree(copy, ignore_errors=True)
    return Path(shutil.copytree(tuned_once, copy))


def refused(directory: Path, match: str, photographs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FormatError, match=match):
        load(directory)
    assert ask.main([str(directory), "What?", "--image", str(photographs[0])]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line and "Loading weights" not in line]
    assert len(said) == 1, said


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"lora_alpha": float("nan")}, "NaN"),
        ({"lora_alpha": float("inf")}, "Infinity"),
        ({"lora_alpha": 1e30}, r"lora_alpha is 1e\+30, the run's record says 4\.0"),
        ({"lora_alpha": 0}, "lora_alpha is 0"),
        ({"lora_alpha": "4"}, "lora_alpha is '4'"),
        ({"r": 4}, "r is 4, the run's record says 2"),
        ({"r": 10**9}, "r is 1000000000"),
        ({"rank_pattern": {".*q_proj": 4}}, "rank_pattern"),
        ({"alpha_pattern": {".*q_proj": 400}}, "alpha_pattern"),
        ({"use_rslora": True}, "use_rslora"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"peft_type": "EVIL"}, "peft_type is 'EVIL'"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"peft_type": None}, "peft_type is None"),
        ({"target_modules": "*("}, "target_modules"),
        ({"target_modules": ["q_proj"]}, "target_modules"),
        ({"target_modules": "all-linear"}, "target_modules"),
        ({"modules_to_save": ["multi_modal_projector", "vision_tower"]}, "modules_to_save"),
        ({"modules_to_save": None}, "modules_to_save"),
        ({"a_setting_of_tomorrow": {"on": True}}, "a_setting_of_tomorrow"),
    ],
)
def test_a_configuration_that_is_not_the_runs(
    change: dict[str, Any], match: str, tuned: Path, photographs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((tuned / ADAPTER).read_text())
    (tuned / ADAPTER).write_text(json.dumps(config | change))
    refused(tuned, match, photographs, capsys)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"alpha": float("nan")}, "NaN"),
        ({"alpha": 1e30}, "alpha is 1e"),
        ({"alpha": 0}, "alpha is 0"),
        ({"rank": 4}, "r is 2, the run's record says 4"),
        ({"rank": -4}, "rank is -4"),
        ({"rank": "two"}, "settings.rank|rank"),
        ({"lora_targets": "*("}, "no regular expression"),
        ({"dropout": 7}, "dropout is 7"),
    ],
)
def test_a_record_that_is_not_the_adapters(
    change: dict[str, Any], match: str, tuned: Path, photographs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((tuned / RECORD).read_text())
    record["settings"] |= change
    (tuned / RECORD).write_text(json.dumps(record))
    refused(tuned, match, photographs, capsys)


def test_both_changed_alike_still_have_to_fit_the_tensors(
    tuned: Path, photographs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    record, config = (json.loads((tuned / name).read_text()) for name in (RECORD, ADAPTER))
    record["settings"]["rank"] = config["r"] = 3
    (tuned / RECORD).write_text(json.dumps(record))
    (tuned / ADAPTER).write_text(json.dumps(config))
    refused(tuned, "does not fit LLaVA", photographs, capsys)


@pytest.mark.parametrize("name", [ADAPTER, RECORD])
@pytest.mark.parametrize("text", [DEEP, "[]", "{", "\xff"])
def test_json_that_is_none(
    name: str, text: str, tuned: Path, photographs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tuned / name).write_text(text, encoding="latin-1")
    refused(tuned, name, photographs, capsys)


def test_tensors_that_are_no_numbers_or_lie(
    tuned: Path, photographs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tensors, whole = load_file(tuned / TENSORS), (tuned / TENSORS).read_bytes()
    name = next(name for name in tensors if "lora_B" in name)
    save_file(tensors | {name: torch.full_like(tensors[name], float("nan"))}, tuned / TENSORS)
    refused(tuned, "NaN or infinity", photographs, capsys)
    (tuned / TENSORS).write_bytes(whole + b"tail")
    refused(tuned, "cut short, or longer", photographs, capsys)
    (tuned / TENSORS).unlink()
    refused(tuned, "no adapter_model", photographs, capsys)
    (tuned / TENSORS).write_bytes(whole)
    load(tuned)
