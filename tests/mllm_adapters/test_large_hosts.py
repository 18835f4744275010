"""Hosts too large for a card: the language model in 4 or 8 bits, and a model over several devices."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scored_question import letter_scores
from tiny.any_host import save_tiny
from transformers import AutoConfig, LlavaForConditionalGeneration

from benchmark.scorers.by_name import load_scorer
from mgll.images.preprocessing import open_image
from mllm_adapters.ask import main as ask
from mllm_adapters.contract.finetune_record import read_finetune
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.hosts.registry import HOSTS
from mllm_adapters.loading import device_map, quantisation
from mllm_adapters.loading.load import load
from mllm_adapters.settings import Dtype, FinetuneSettings, Quantisation, TrainingQuestion

SETTINGS = FinetuneSettings(rank=2, batch_size=4, steps=3, learning_rate=1e-2, log_every=1)
PARTS = ("vision_tower", "multi_modal_projector", "language_model.embed_tokens", "language_model.layers.0")
PARTS += ("language_model.layers.1", "language_model.norm", "language_model.rotary_emb")
#: All parts of LLaVA in main memory but a block, which lies on disk.
SPREAD = {f"model.{part}": "cpu" for part in PARTS} | {"lm_head": "cpu", "model.language_model.layers.1": "disk"}


@pytest.fixture(scope="module")
def questions(photographs: list[Path]) -> list[TrainingQuestion]:
    return [TrainingQuestion(path, f"What is {i}?", "ABCD"[i % 4]) for i, path in enumerate(photographs)]


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA whose widths are multiples of 64, as those of real ones are: on a CPU bitsandbytes may pack such layers."""
    directory = save_tiny("llava", tmp_path_factory.mktemp("large") / "llava")
    config = AutoConfig.from_pretrained(directory)
    config.text_config.hidden_size, config.text_config.intermediate_size = 64, 128
    config.text_config.head_dim = 64 // config.text_config.num_attention_heads
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    for path in directory.glob("*.safetensors*"):
        path.unlink()
    model.save_pretrained(directory)
    return directory


@pytest.mark.slow_except("nf4-llava", "int8-llava")
@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_of_every_host_the_language_models_blocks_alone_are_quantised(
    kind: Quantisation,
    name: str,
    hosts: Callable[[str], Path],
    photographs: list[Path],
    questions: list[TrainingQuestion],
    tmp_path: Path,
) -> None:
    """They are scored nearly as they were, tuned, and loaded again."""
    nn = pytest.importorskip("bitsandbytes").nn
    loaded = load(hosts(name), quantize=kind)
    linear = {n: m for n, m in loaded.model.named_modules() if isinstance(m, torch.nn.Linear)}
    small = {n for n, module in linear.items() if isinstance(module, nn.Linear4bit | nn.Linear8bitLt)}
    kept = [f".{part}." for part in (loaded.host.tower, *loaded.host.connector)]
    assert small
    assert not [n for n in small if any(part in f".{n}." for part in kept) or "lm_head" in n]
    assert {n for n in linear if "language_model" in n and "self_attn" in n and "layers" in n} <= small
    image = open_image(photographs[0])
    ((whole,), (own,)) = letter_scores(hosts(name), image), letter_scores(hosts(name), image, quantize=kind)
    assert own.log_probs == pytest.approx(whole.log_probs, abs=0.2 if kind == "nf4" else 0.05)
    assert own.log_probs != whole.log_probs
    tuned = finetune(hosts(name), questions, tmp_path / "tuned", replace(SETTINGS, quantize=kind))
    assert letter_scores(tuned, image, quantize=kind)[0].log_probs != own.log_probs


@pytest.mark.filterwarnings("error:.*autograd kernel was not registered")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_qlora_in_4_bits_learns_the_same_with_validations_and_without(
    dtype: Dtype, llava: Path, questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    """On some CPUs bitsandbytes packs layers that were once evaluated in a form that has no gradients."""
    pytest.importorskip("bitsandbytes")
    settings = replace(SETTINGS, quantize="nf4", dtype=dtype)
    plain = finetune(llava, questions, tmp_path / "plain", settings)
    asked = replace(settings, validate_every=1)
    validated = finetune(llava, questions, tmp_path / "validated", asked, held_out=questions[:4])
    lines = [
        [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()] for out in (plain, validated)
    ]
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[1]]
    assert lines[1][-1]["validation_loss"] < lines[1][0]["validation_loss"]
    assert read_finetune(plain).dtype == dtype


def test_without_bitsandbytes_one_line_says_so(
    llava: Path, photographs: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quantisation.importlib.util, "find_spec", lambda name: None)
    assert ask([str(llava), "What?", "--image", str(photographs[0]), "--quantize", "nf4"]) == 1
    said = capsys.readouterr().err
    assert "needs bitsandbytes, which is not installed: pip install mgll-graft[qlora]" in said
    assert "Traceback" not in said
    with pytest.raises(ValueError, match="--dtype and --quantize: for directories only; constant:A holds"):
        load_scorer("constant:A", dtype="float16", quantize="int8", device_map=None)


def test_a_model_over_several_devices_answers_the_same(
    llava: Path, photographs: list[Path], questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    """One block lies on disk, which accelerate fetches by the same hooks by which it goes from card to card."""
    image = open_image(photographs[0])
    whole = letter_scores(llava, image)
    assert letter_scores(llava, image, device_map="auto") == whole
    assert letter_scores(llava, image, device_map=SPREAD) == whole
    assert "spread over 2 places (7 parts on cpu, 1 parts on disk)" in load(llava, device_map=SPREAD).note
    tuned = finetune(llava, questions, tmp_path / "tuned", replace(SETTINGS, device_map="auto"))
    assert letter_scores(tuned, image, device_map="auto") == letter_scores(tuned, image) != whole
    with pytest.raises(ValueError, match=r"no room on the cards for 1 parts of the model \(1 parts on disk\)"):
        load(tuned, device_map=SPREAD)


@pytest.mark.parametrize(
    ("places", "away"),
    [
        ({"": 0}, {}),
        ({"a": "cpu", "b": "cpu"}, {}),
        ({"a": 0, "b": 1}, {}),
        ({"a": 0, "b": "cpu", "c": "disk"}, {"cpu": 1, "disk": 1}),
    ],
)
def test_what_lies_beside_the_cards_is_known(places: dict[str, object], away: dict[str, int]) -> None:
    model = torch.nn.Linear(1, 1)
    model.hf_device_map = places
    assert device_map.parts_away(model) == away
