"""The section `objective`: every named objective gives the loss and the gradients on the card that it gives on the CPU.

The whole model takes part (tower, text encoder, projections, objective) on the same pixels and texts, in float32 without TF32. In
half precision, as autocast computes the encoders, loss and gradient may drift, but not far.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from bench import Bench, without_tf32
from findings import Finding, at_most
from tiny_text_models import bert
from torch import Tensor

from mgll.encoders.text import TextEncoder
from mgll.encoders.vision import vision_encoder
from mgll.manifest.records import Record
from mgll.settings import OBJECTIVES, PretrainSettings
from mgll.synthetic.sampling import sample_eye
from mgll.training.data import TextLevel, text_levels
from mgll.training.model import ContrastiveModel
from mgll.training.texts import TrainingTexts
from mgll.vocabulary.label_texts import describe_labels

#: Largest relative difference between CPU and GPU in float32; sums over a batch are added up in another order there.
LOSS_APART, GRADIENTS_APART = 1e-5, 1e-4
#: Largest drift from float32 by precision: of the loss, relative, and of the gradient's direction, as 1 - cosine.
DRIFT = {torch.bfloat16: (0.02, 0.005), torch.float16: (0.002, 1e-4)}
#: Gradients of float16 are scaled up, as its scaler does, or the small ones would become 0.
LOSS_SCALE = 2.0**10


@dataclass(frozen=True)
class Step:
    """What a step gives: the loss, and the gradient of all parameters in one vector, both on the CPU in float64."""

    loss: Tensor
    gradient: Tensor

    def apart(self, other: "Step") -> tuple[float, float]:
        """Relative differences of the loss and of the gradient."""
        return _relative(other.loss, self.loss), _relative(other.gradient, self.gradient)

    def drift(self, other: "Step") -> tuple[float, float]:
        """Relative difference of the loss, and 1 - cosine between the gradients."""
        cosine = torch.nn.functional.cosine_similarity(self.gradient, other.gradient, dim=0)
        return _relative(other.loss, self.loss), float(1 - cosine)


def measure(bench: Bench) -> Iterator[Finding]:
    """Two rows an objective in float32, two for each half precision."""
    without_tf32()
    records = sampled_records(8 if bench.tiny else 256)
    texts = bert(bench.folder / "bert")
    for name, objective in OBJECTIVES.items():
        levels = text_levels(records, levels=objective.levels)
        encoder = TextEncoder(texts, "full")
        settings = PretrainSettings(
            encoder="vit-nano-16", image_size=32, feature_width=32, objective=name, text_training="full"
        )
        torch.manual_seed(1)
        model = ContrastiveModel(vision_encoder(settings.encoder, 32), encoder, settings).train()
        pixels = torch.randn(len(records), 3, 32, 32)
        expected = step(model, levels, pixels, torch.device("cpu"))
        on_device = step(model, levels, pixels, bench.device)
        loss, gradients = expected.apart(on_device)
        yield at_most(f"{name}: loss, GPU from CPU", loss, LOSS_APART)
        yield at_most(f"{name}: gradients, GPU from CPU", gradients, GRADIENTS_APART)
        for dtype, (most, turned) in DRIFT.items():
            loss, angle = expected.drift(step(model, levels, pixels, bench.device, dtype))
            short = str(dtype).removeprefix("torch.")
            yield at_most(f"{name}: loss, {short} from float32", loss, most)
            yield at_most(f"{name}: gradient, 1 - cosine, {short}", angle, turned)


def sampled_records(count: int) -> list[Record]:
    """Records with the texts of sampled eyes, and no images."""
    random = np.random.default_rng(0)
    return [
        Record(image=str(i), split="train", group=str(i), texts=describe_labels(sample_eye(random)))
        for i in range(count)
    ]


def step(
    model: ContrastiveModel,
    levels: Mapping[str, TextLevel],
    pixels: Tensor,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> Step:
    """Loss and gradients of a copy of the model on a device, under autocast where a dtype is given."""
    own = deepcopy(model).to(device)
    encoder = own.text_encoder
    assert isinstance(encoder, TextEncoder)
    batch = TrainingTexts(levels, encoder, device).batch(range(len(pixels)))
    readable = torch.ones(len(pixels), dtype=torch.bool, device=device)
    scale = LOSS_SCALE if dtype == torch.float16 else 1.0
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        loss = own(pixels.to(device), readable, batch)["loss"]
    (loss * scale).backward()
    gradients = [p.grad.double().flatten().cpu() / scale for p in own.parameters() if p.grad is not None]
    return Step(loss.detach().double().cpu(), torch.cat(gradients))


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
