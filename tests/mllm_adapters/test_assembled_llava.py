"""A LLaVA put together of a vision folder and a language model's folder, on tiny models of the true classes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
)

from mgll.encoders.vision import vision_encoder
from mgll.images.preprocessing import Preprocessing
from mgll.tower.file import save_tower
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.demo.assembled_llava import assemble_llava
from mllm_adapters.demo.decoder import build_tokenizer
from mllm_adapters.graft.transplant import convert_host, graft_tower
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load

RECIPES = Path(__file__).parents[2] / "recipes"
SEEN = Preprocessing(size=42, resize="squash")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    vision = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=70, patch_size=14, use_mask_token=False
    )
    Dinov2Model(vision).save_pretrained(folder / "vision")
    tokenizer = build_tokenizer()
    words = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(words).save_pretrained(folder / "words")
    tokenizer.save_pretrained(folder / "words")
    return folder


@pytest.fixture(scope="module")
def host(parts):
    return assemble_llava(parts / "vision", parts / "words", parts / "llava", SEEN, dtype=torch.float32)


def test_both_parts_are_in_it_unchanged_and_plain_transformers_loads_it(parts, host):
    model, said = AutoModelForImageTextToText.from_pretrained(host, output_loading_info=True)
    assert not said["missing_keys"]
    assert not said["unexpected_keys"]
    tower, words = vision_encoder(f"hf:{parts / 'vision'}", 42), LlamaForCausalLM.from_pretrained(parts / "words")
    for name, value in tower.state_dict().items():
        assert torch.equal(model.model.vision_tower.state_dict()[name], value)
    rows = words.config.vocab_size
    assert torch.equal(model.lm_head.weight[:rows], words.lm_head.weight)
    assert torch.equal(model.model.language_model.embed_tokens.weight[:rows], words.model.embed_tokens.weight)


def test_the_same_arguments_give_the_same_bytes(parts, host):
    again = assemble_llava(parts / "vision", parts / "words", parts / "again", SEEN, dtype=torch.float32)
    assert (again / "model.safetensors").read_bytes() == (host / "model.safetensors").read_bytes()


def test_it_is_a_baseline_as_it_is(parts, host):
    convert_host(get_host("llava"), host, parts / "untouched")
    loaded, plain = load(parts / "untouched"), AutoModelForImageTextToText.from_pretrained(host)
    assert loaded.model.config.image_seq_length == 9
    inputs = loaded.processor(
        images=[Image.new("RGB", (50, 40), "red")], text=[loaded.host.prompt("What?")], return_tensors="pt"
    )
    assert torch.equal(loaded.model(**inputs).logits, plain(**inputs).logits)


@pytest.mark.parametrize("tokens", ["native", "pooled"])
def test_a_tower_is_grafted_into_it(parts, host, tokens):
    tower = parts / "tower.ckpt"
    save_tower(tower, vision_encoder(f"hf:{parts / 'vision'}", 42), SEEN, "mean")
    graft_tower(get_host("llava"), host, tower, parts / tokens, GraftSettings(tokens=tokens))
    loaded = load(parts / tokens)
    features = 1 if tokens == "pooled" else 9
    assert loaded.model.config.image_seq_length == features


def test_its_language_model_learns_to_read_and_nothing_else_of_it_changes(host, tmp_path):
    out = tmp_path / "reader"
    command = [
        sys.executable,
        RECIPES / "teach_reading.py",
        "--host",
        host,
        "--out",
        out,
        "--steps",
        "2",
        "--batch-size",
        "2",
    ]
    first = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert "of questions in words right (chance 25 %)" in first.stdout
    assert "2/2" in first.stderr  # progress
    before, after = (load(folder, dtype="float32").model.state_dict() for folder in (host, out))
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(".language_model.layers." in name for name in changed)
    assert not (out / "checkpoints").exists()
    at = (out / "model.safetensors").stat().st_mtime_ns
    assert subprocess.run(list(map(str, command)), capture_output=True).returncode == 0
    assert (out / "model.safetensors").stat().st_mtime_ns == at
