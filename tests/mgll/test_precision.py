"""In what numbers training computes, and encoders that are compiled."""

import shutil
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from tiny_text_models import bert

from mgll.encoders.text import TextEncoder
from mgll.encoders.vision import vision_encoder
from mgll.manifest.records import Record
from mgll.settings import PretrainSettings
from mgll.training import precision
from mgll.training.data import text_levels
from mgll.training.model import ContrastiveModel
from mgll.training.precision import FEW_TOKENS, attention_for, float32_products, settle_precision
from mgll.training.pretraining import pretrain
from mgll.training.texts import TrainingTexts


@pytest.mark.parametrize(
    ("device", "good", "asked", "expected"),
    [
        ("cuda:0", True, "auto", "bf16"),
        ("cuda:0", False, "auto", "no"),
        ("cpu", True, "auto", "no"),
        ("mps", False, "auto", "no"),
        ("cuda:0", True, "no", "no"),
        ("cpu", False, "bf16", "bf16"),
    ],
)
def test_auto_is_bf16_on_gpus_that_are_good_at_it(monkeypatch, device, good, asked, expected):
    monkeypatch.setattr(precision, "usual_device", lambda: device)
    monkeypatch.setattr(precision, "multiplies_in_bfloat16", lambda _: good)
    assert settle_precision(PretrainSettings(mixed_precision=asked)).mixed_precision == expected


@pytest.mark.parametrize("tf32", [False, True])
def test_how_float32_is_multiplied_is_put_back_also_after_an_error(tf32):
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [kind.allow_tf32 for kind in kinds]
    with suppress(KeyError), float32_products(tf32):
        within = [kind.allow_tf32 for kind in kinds]
        raise KeyError
    assert within == [tf32, tf32]
    assert [kind.allow_tf32 for kind in kinds] == before


def test_compiled_encoders_have_the_same_weights_and_the_same_loss(tmp_path):
    """Captured graph by graph as for the real compiler, and run without it, which takes a minute."""
    records = [Record(image="x", split="train", group="g", texts={"a": (f"text {i}",)}) for i in range(3)]
    settings = PretrainSettings(encoder="vit-nano-16", image_size=32, feature_width=16)
    pixels, found = torch.randn(3, 3, 32, 32), []
    for compiled in (False, True):
        torch.manual_seed(0)
        encoder = TextEncoder(bert(tmp_path / "bert"), "full")
        tower = vision_encoder(settings.encoder, 32)
        model = ContrastiveModel(tower, encoder, replace(settings, compile=compiled))
        texts = TrainingTexts(text_levels(records, levels="separate"), encoder, "cpu")
        with torch.compiler.set_stance("force_eager"):
            loss = model(pixels, torch.ones(3, dtype=torch.bool), texts.batch(range(3)))["loss"]
        loss.backward()
        found.append((list(model.state_dict()), loss.item(), tower._compiled_call_impl is not None))
    assert found[0][:2] == found[1][:2]
    assert [was_compiled for _, _, was_compiled in found] == [False, True]


def test_compiling_needs_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ValueError, match=r"compile: no C\+\+ compiler here \(.*clang\+\+\); install one"):
        pretrain(PretrainSettings(manifest="none.jsonl", out=str(tmp_path), compile=True))


@pytest.mark.parametrize(
    ("device", "half", "tokens", "plain"),
    [
        ("cpu", True, FEW_TOKENS, True),
        ("cpu", True, FEW_TOKENS + 1, False),
        ("cpu", False, FEW_TOKENS, False),
        ("cuda:0", True, FEW_TOKENS, False),
    ],
)
def test_attention_of_few_tokens_in_half_precision_is_plain_on_a_cpu(device, half, tokens, plain):
    def backward_of() -> str:
        query = torch.randn(2, 3, tokens, 16, dtype=torch.bfloat16, requires_grad=True)
        found = torch.nn.functional.scaled_dot_product_attention(query, query, query)
        return str(found.grad_fn)

    with attention_for(torch.device(device), half, tokens):
        assert ("FlashAttention" not in backward_of()) == plain
    assert "FlashAttention" in backward_of()
