"""Chunks and gradient checkpointing hold less and change no gradient."""

from dataclasses import replace

import pytest
import torch
from tiny_text_models import bert

from mgll.encoders.text import TextEncoder
from mgll.encoders.vision import vision_encoder
from mgll.manifest.records import Record
from mgll.settings import PretrainSettings
from mgll.training.data import text_levels
from mgll.training.model import ContrastiveModel
from mgll.training.texts import TrainingTexts
from mgll.vocabulary.label_texts import describe_labels

LABELS = (["Health"], ["Mild NPDR", "DME"], ["Health"], ["Drusen"], ["DME"])
ENCODERS = {
    "vit": ("vit-nano-16", {}),
    "convolutional": ("timm:convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}),
}


def step(settings: PretrainSettings, folder: str, dropout: float) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
    """Loss, gradients, and the bytes of activations that the forward pass keeps."""
    torch.manual_seed(0)
    texts = TextEncoder(folder, "full", dropout=dropout)
    tower = vision_encoder(settings.encoder, 32, **settings.encoder_options)
    model = ContrastiveModel(tower, texts, settings).train()
    records = [Record(image="x", split="train", group="g", texts=describe_labels(own)) for own in LABELS]
    batch = TrainingTexts(text_levels(records, levels="separate"), texts, "cpu").batch(range(5))
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(torch.randn(5, 3, 32, 32), torch.ones(5, dtype=torch.bool), batch)["loss"]
    loss.backward()
    return loss, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, sum(kept.values())


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("change", [{"chunk": 2}, {"gradient_checkpointing": True}], ids=["chunk", "checkpointing"])
def test_less_is_held_and_the_gradient_is_the_same(tmp_path, encoder, change):
    folder, (name, options) = bert(tmp_path / "bert"), ENCODERS[encoder]
    whole = PretrainSettings(encoder=name, encoder_options=options, image_size=32, feature_width=16)
    dropout = 0.0 if "chunk" in change else 0.1  # chunks of texts draw other masks than the batch
    loss, expected, held = step(whole, folder, dropout)
    again, found, held_now = step(replace(whole, **change), folder, dropout)
    assert again.item() == pytest.approx(loss.item(), rel=1e-5)
    assert held_now < 0.6 * held
    assert found.keys() == expected.keys()
    for parameter, gradient in expected.items():
        torch.testing.assert_close(
            found[parameter], gradient, rtol=1e-3, atol=1e-6, msg=lambda m, p=parameter: f"{p}: {m}"
        )


def test_chunks_of_batch_norms_are_refused(tmp_path):
    settings = PretrainSettings(encoder="timm:resnet10t", image_size=32, chunk=2)
    with pytest.raises(ValueError, match="batch norms need the whole batch"):
        ContrastiveModel(vision_encoder("timm:resnet10t", 32), TextEncoder(bert(tmp_path / "bert")), settings)
