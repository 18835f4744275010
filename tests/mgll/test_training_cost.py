"""The estimates of `mgll.training_cost` against a real small model that is made and run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mgll.encoders.text import TextEncoder
from mgll.encoders.vision import vision_encoder
from mgll.settings import PretrainSettings
from mgll.training.model import ContrastiveModel
from mgll.training_cost import CostSettings, cost, image_encoder_cost, row, text_encoder_cost

SMALL = CostSettings(
    encoder="vit-nano-16", image_size=64, bf16=False, batch_size=6, overhead=0.0, text_width=64, feature_width=16
)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_parameters_operations_and_kept_bytes_are_those_of_a_real_step(checkpointing):
    image = image_encoder_cost(replace(SMALL, gradient_checkpointing=checkpointing))
    settings = PretrainSettings(
        encoder="vit-nano-16", image_size=64, pooling="cls", feature_width=16, gradient_checkpointing=checkpointing
    )
    model = ContrastiveModel(vision_encoder("vit-nano-16", 64), TextEncoder(), settings).train()
    assert image.parameters == sum(p.numel() for p in model.tower.parameters() if p.requires_grad)

    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), FlopCounterMode(display=False) as ahead:
        feature = model.encode_images(torch.randn(6, 3, 64, 64))
    with FlopCounterMode(display=False) as back:
        feature.sum().backward()
    assert 6 * (image.kept + image.kept_once) == pytest.approx(sum(kept.values()), rel=0.1)
    assert 6 * image.forward == pytest.approx(ahead.get_total_flops(), rel=0.02)
    assert 6 * image.backward == pytest.approx(back.get_total_flops(), rel=0.02)


@pytest.mark.slow
def test_what_the_settings_do_to_the_estimate():
    plain = replace(SMALL, batch_size=64, text_layers=0)
    image, text = image_encoder_cost(plain), text_encoder_cost(plain)
    again = image_encoder_cost(replace(plain, gradient_checkpointing=True))
    half, bert = image_encoder_cost(replace(plain, bf16=True)), text_encoder_cost(replace(plain, text_layers=2))
    assert again.kept < 0.4 * image.kept
    # once more forward, but for what no gradient asks for: the last product of each layer
    assert 0.4 < (again.backward - image.backward) / image.forward <= 1
    assert half.kept < 0.8 * image.kept
    assert half.kept_once == pytest.approx(2 * image.parameters, rel=0.1)  # a copy of two bytes a weight
    assert image.parameters == half.parameters == again.parameters
    with_texts = cost(replace(plain, text_layers=2), image, bert)
    assert with_texts.parameters == image.parameters + bert.parameters

    assert text.parameters == 0  # a frozen text encoder
    whole, chunked, eight = (
        cost(replace(plain, **changes), image, text) for changes in ({}, {"chunk": 8}, {"processes": 8})
    )
    assert chunked.memory["activations"] == pytest.approx(whole.memory["activations"] / 8)
    assert chunked.operations == pytest.approx(whole.operations + 64 * image.forward, rel=0.01)
    assert eight.seconds == pytest.approx(whole.seconds / 8, rel=0.01)
    assert eight.total < whole.total
    split = cost(replace(plain, processes=8, zero2=True), image, text)
    assert split.memory["AdamW's two moments"] == pytest.approx(eight.memory["AdamW's two moments"] / 8)


@pytest.mark.slow
def test_the_page_has_what_is_counted_now():
    page = (Path(__file__).resolve().parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
    paper = CostSettings()
    image, text = image_encoder_cost(paper), text_encoder_cost(paper)
    assert row(paper, "bf16", image, text) in page
    assert row(replace(paper, batch_size=4096, processes=8, chunk=64), "bf16, chunk 64", image, text) in page
    assert f"{image.parameters / 1e6:.0f} M (ViT-L/14)" in page
