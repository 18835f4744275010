"""Exports: what plain transformers and PEFT make of them without this package, and what is refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from donors import save_donor
from PIL import Image
from safetensors.torch import load_file
from scored_question import QUESTION, last_logits
from tiny.any_host import store_as
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration

from mllm_adapters.contract.terms import HostError
from mllm_adapters.export.__main__ import main
from mllm_adapters.export.definitions import files_with
from mllm_adapters.export.exporting import EXPORT, Exported, export_model
from mllm_adapters.export.merging import merge
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.graft.transplant import convert_host, graft_tower
from mllm_adapters.hosts.registry import HOSTS, get_host
from mllm_adapters.loading.load import load
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

#: Hosts that are exported without a graft too.
UNTOUCHED = ("internvl", "instructblip", "qwen-vl")
#: What a class of transformers holds: a CLIP tower in a host that takes one, and hosts as their makers published them.
STOCK = {name for name in HOSTS if "clip_vision_model" in get_host(name).stock_towers}
STOCK |= {"internvl untouched", "instructblip untouched"}
STEPS = FinetuneSettings(rank=2, steps=2, batch_size=2, learning_rate=0.05, connector_learning_rate=0.05)


@pytest.fixture(scope="session")
def photograph() -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 33, 3), dtype=np.uint8))


def logits_of(directory: Path, image: Image.Image) -> torch.Tensor:
    loaded = load(directory)
    return last_logits(loaded, [image], [loaded.host.prompt(QUESTION)])


def merged_logits(directory: Path, image: Image.Image) -> torch.Tensor:
    loaded = load(directory)
    merge(loaded.model, loaded.host, keep_lora=False)
    return last_logits(loaded, [image], [loaded.host.prompt(QUESTION)])


def plain_logits(model: Any, folder: Path, prompt: str, image: Image.Image) -> torch.Tensor:
    inputs = AutoProcessor.from_pretrained(folder)(images=[image], text=[prompt], return_tensors="pt")
    with torch.inference_mode():
        return model.eval()(**inputs).logits[:, -1].float()


@pytest.fixture(scope="session")
def exports(
    hosts: Callable[[str], Path],
    tuned: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[Path, Exported]]:
    """Of every host a fine-tuned graft, and of some the untouched host, exported: the directory and what became of it."""
    folder = tmp_path_factory.mktemp("exports")
    found = {}
    for name in HOSTS:
        found[name] = (tuned(name), export_model(tuned(name), folder / name))
    for name in UNTOUCHED:
        found[f"{name} untouched"] = (hosts(name), export_model(hosts(name), folder / f"{name}-host"))
    return found


@pytest.fixture(scope="session")
def read(
    exports: dict[str, tuple[Path, Exported]], photograph: Image.Image, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What a process that lacks this package finds in all of them."""
    folder = tmp_path_factory.mktemp("read")
    image = torch.from_numpy(np.array(photograph))
    asked = {
        name: (str(done.out), bool(done.code), get_host(name.split()[0]).prompt(QUESTION), QUESTION, image)
        for name, (_, done) in exports.items()
    }
    torch.save(asked, folder / "questions.pt")
    site = Path(transformers.__file__).parents[1]
    script = Path(__file__).with_name("read_exported.py")
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env |= {"HF_MODULES_CACHE": str(folder / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-S", script, site, folder / "questions.pt", folder / "found.pt"]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return torch.load(folder / "found.pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HOSTS, *(f"{name} untouched" for name in UNTOUCHED)])
def test_plain_transformers_without_this_package_says_the_same(
    name: str, exports, read, photograph: Image.Image
) -> None:
    directory, done = exports[name]
    found = read[name]
    assert not found["wrong"]
    # a server that fills in the template asks what the benchmark asks
    assert found["chat"] is (None if name.startswith("instructblip") else True)
    torch.testing.assert_close(found["logits"], logits_of(directory, photograph), rtol=0, atol=1e-5)
    # against the same sums of weights not even rounding differs, but for that of a batch
    torch.testing.assert_close(found["logits"], merged_logits(directory, photograph), rtol=0, atol=5e-7)
    stock = name in STOCK
    assert bool(done.code) is not stock
    assert found["class"] == done.model_class
    assert hasattr(transformers, done.model_class) is stock


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTS)
def test_code_runs_only_where_it_is_trusted(name: str, exports) -> None:
    done = exports[name][1]
    if not done.code:
        return
    with pytest.raises(ValueError, match="trust_remote_code"):
        AutoModelForImageTextToText.from_pretrained(done.out, trust_remote_code=False)
    if done.model_class == "GraftedModel":
        with pytest.raises(HostError, match="take the directory that it was made of"):
            load(done.out)
    for file in done.code:
        assert not re.search(r"^\s*(from|import) (mgll|mllm_adapters)\b", (done.out / file).read_text(), re.MULTILINE)


@pytest.fixture
def questions(photographs: list[Path]) -> list[TrainingQuestion]:
    return [TrainingQuestion(photographs[i], QUESTION, "ABCD"[i]) for i in range(4)]


@pytest.fixture
def llava(hosts, donor: Path, tmp_path: Path) -> Path:
    graft_tower(get_host("llava"), hosts("llava"), donor, tmp_path / "graft")
    return tmp_path / "graft"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"rslora": True, "rank": 3}, id="rslora"),
        pytest.param({"dora": True}, id="dora"),
        pytest.param({"tower": "lora"}, id="tower-lora"),
        pytest.param({"tower": "last", "tower_layers": 1, "tower_learning_rate": 0.01}, id="tower"),
    ],
)
def test_merged_or_as_an_adapter_it_says_the_same(
    changes: dict[str, Any], llava: Path, questions, photograph: Image.Image, tmp_path: Path
) -> None:
    run = finetune(llava, questions, tmp_path / "tuned", replace(STEPS, **changes))
    expected, untrained = logits_of(run, photograph), logits_of(llava, photograph)
    assert not torch.allclose(expected, untrained, atol=1e-3)
    prompt = get_host("llava").prompt(QUESTION)

    export_model(run, tmp_path / "merged")
    merged = LlavaForConditionalGeneration.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(
        plain_logits(merged, tmp_path / "merged", prompt, photograph), expected, rtol=0, atol=1e-5
    )

    done = export_model(run, tmp_path / "apart", form="peft")
    base, adapter = tmp_path / "apart" / "base", tmp_path / "apart" / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["modules_to_save"] is None
    assert not config["use_rslora"]
    assert config["target_modules"] == sorted(config["target_modules"])
    assert all(
        "language_model" in name and "lora_" in name for name in load_file(adapter / "adapter_model.safetensors")
    )
    model = peft.PeftModel.from_pretrained(LlavaForConditionalGeneration.from_pretrained(base), adapter)
    torch.testing.assert_close(plain_logits(model, base, prompt, photograph), expected, rtol=0, atol=1e-5)
    assert any("DoRA" in remark for remark in done.remarks) is config["use_dora"]


@pytest.mark.parametrize(("kind", "plain"), [("registers", False), ("dinov2", True), ("siglip", True), ("vit", False)])
def test_a_donor_that_the_hosts_configuration_can_name_needs_no_code(
    kind: str, plain: bool, hosts, photograph: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import donors

    vit = ({"model_type": "dinov2", **donors.VIT}, 32, "cls")
    monkeypatch.setitem(donors.DONORS, "dinov2", vit)
    graft_tower(get_host("llava"), hosts("llava"), save_donor(kind, tmp_path / "donor.ckpt"), tmp_path / "graft")
    done = export_model(tmp_path / "graft", tmp_path / "out")
    assert bool(done.code) is not plain
    if plain:
        model, prompt = (
            LlavaForConditionalGeneration.from_pretrained(tmp_path / "out"),
            get_host("llava").prompt(QUESTION),
        )
        found = plain_logits(model, tmp_path / "out", prompt, photograph)
        torch.testing.assert_close(found, logits_of(tmp_path / "graft", photograph), rtol=0, atol=1e-5)


def test_half_precision_is_added_up_in_float32_and_rounded_once(hosts, questions, tmp_path: Path) -> None:
    host = store_as(torch.bfloat16, shutil.copytree(hosts("llava"), tmp_path / "host"))
    convert_host(get_host("llava"), host, tmp_path / "base")
    run = finetune(tmp_path / "base", questions, tmp_path / "tuned", STEPS)
    done = export_model(run, tmp_path / "out")
    assert set(done.dtypes) == {"bfloat16"}
    found = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out").state_dict()
    before = load(tmp_path / "base").model.state_dict()
    adapter = load_file(run / "adapter_model.safetensors")
    layers = {name.partition(".lora_A")[0] for name in adapter if ".lora_A" in name}
    assert layers
    for layer in layers:
        up, down = adapter[f"{layer}.lora_B.weight"], adapter[f"{layer}.lora_A.weight"]
        name = layer.removeprefix("base_model.model.") + ".weight"
        assert torch.equal(found[name], (before[name].float() + up @ down * (STEPS.alpha / STEPS.rank)).bfloat16()), (
            name
        )
    assert export_model(run, tmp_path / "whole", dtype="float32").dtypes.keys() == {"float32"}


def test_shards_and_no_word_of_the_machine(llava: Path, questions, photograph: Image.Image, tmp_path: Path) -> None:
    run = finetune(llava, questions, tmp_path / "tuned", STEPS)
    out = tmp_path / "out"
    for _ in range(2):  # an earlier export is replaced
        assert main([str(run), "--out", str(out), "--max_shard_size", "40KB"]) == 0
    assert len(list(out.glob("model-*.safetensors"))) > 1
    assert (out / "model.safetensors.index.json").is_file()
    torch.testing.assert_close(logits_of(out, photograph), logits_of(run, photograph), rtol=0, atol=1e-5)
    texts = [path.read_text() for path in out.iterdir() if path.suffix != ".safetensors"]
    assert not any(str(tmp_path.parent) in text for text in texts)
    card, record = (out / "README.md").read_text(), json.loads((out / EXPORT).read_text())
    assert "Research use only, not for diagnosis." in card
    for fact in (record["made_of"]["tower"]["sha256"], record["made_of"]["questions"]["sha256"], "4 questions"):
        assert fact in card


@pytest.mark.parametrize(
    ("module", "name", "reason"),
    [
        ("mllm_adapters.hosts.llava.host", "Llava.plan", "uses its self"),
        ("mllm_adapters.checkpoints.tensors", "read_pickle", "is a module of ours"),
        ("mgll.tower.config", "nothing", "does not define"),
    ],
)
def test_code_that_cannot_be_cut_out_is_named(module: str, name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"{module.rpartition('.')[0]}.*{reason}|mgll.weights.reading {reason}"):
        files_with([(module, name)])


def test_what_is_refused(llava: Path, hosts, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str | Path) -> str:
        assert main([str(argument) for argument in arguments]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        return error

    out = tmp_path / "out"
    assert "never changed" in said(llava, "--out", llava)
    assert "no LoRA" in said(llava, "--out", out, "--form", "peft")
    assert "not a model directory" in said(tmp_path / "nothing", "--out", out)
    assert "such as 5GB" in said(llava, "--out", out, "--max_shard_size", "0GB")
    assert "OWNER/NAME" in said(llava, "--out", out, "--push_to_hub", "name")
    assert not out.exists()
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert "notes.txt" in said(llava, "--out", out)
    assert (out / "notes.txt").read_text() == "mine"


def test_an_upload_that_cannot_begin_writes_nothing(
    llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main([str(llava), "--out", str(tmp_path / "out"), "--push_to_hub", "somebody/graft"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: --push-to-hub somebody/graft: nothing was written")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
