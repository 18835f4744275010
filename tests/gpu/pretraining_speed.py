"""The section `pretraining`: speed and memory of ViT-L/14 with a BERT-base at three batch sizes, against `mgll.training_cost`.

MFU is the share of the data sheet's dense bf16 peak that the operations of the model make up; what checkpointing and chunks compute
twice does not count as work. Memory is compared without the part that `training_cost` assumes for CUDA itself; with it, it must
cover what the card has really given away. At the end: how many photographs the processor decodes while the card wants so many.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from bench import Bench
from findings import Finding, at_most, near, shown
from objective_equality import sampled_records
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, BertConfig, BertModel

from mgll.encoders.text import TextEncoder, embedded_text_encoder
from mgll.encoders.vision import vision_encoder
from mgll.manifest.records import read_manifest
from mgll.settings import PretrainSettings
from mgll.synthetic.dataset import generate
from mgll.training.data import TrainingImages, text_levels
from mgll.training.looks import Augmentation
from mgll.training.model import ContrastiveModel
from mgll.training.pretraining import adamw
from mgll.training.texts import TrainingTexts
from mgll.training_cost import GB, Cost, CostSettings, EncoderCost, cost, image_encoder_cost, text_encoder_cost

MEMORY_APART = 0.15


@dataclass(frozen=True)
class Shape:
    """A batch size and how it fits into the memory."""

    batch_size: int
    gradient_checkpointing: bool = False
    chunk: int | None = None

    def __str__(self) -> str:
        said = ["checkpointing"] * self.gradient_checkpointing + ([f"chunk {self.chunk}"] if self.chunk else [])
        return f"batch {self.batch_size:,}" + (f" ({', '.join(said)})" if said else "")


SHAPES = (Shape(32), Shape(256, gradient_checkpointing=True), Shape(1024, chunk=64))
TINY = (Shape(4), Shape(8, gradient_checkpointing=True, chunk=4))


def measure(bench: Bench) -> Iterator[Finding]:
    """Four or five rows a batch size, and two of decoding."""
    width, layers = (32, 2) if bench.tiny else (768, 12)
    texts = _bert(bench.folder / "bert", width, layers)
    counted = CostSettings(
        encoder="vit-nano-16" if bench.tiny else "vit-large-14",
        image_size=32 if bench.tiny else 224,
        text_layers=layers,
        text_width=width,
        vocabulary=TextEncoder(texts, "full").model.config.vocab_size,
    )
    fastest = 0.0
    for shape in TINY if bench.tiny else SHAPES:
        settings = replace(
            counted,
            batch_size=shape.batch_size,
            gradient_checkpointing=shape.gradient_checkpointing,
            chunk=shape.chunk,
        )
        seconds, rows = _one(bench, str(shape), texts, settings)
        fastest = max(fastest, shape.batch_size / seconds)
        yield from rows
    yield from _decoding(bench, counted.image_size, fastest)


def _one(bench: Bench, name: str, texts: str, counted: CostSettings) -> tuple[float, list[Finding]]:
    """Seconds a step, and the rows of one batch size."""
    bench.forget_memory()
    step = _Step(bench, texts, counted)
    for _ in range(2):
        step()
    seconds = bench.seconds(step, 2 if bench.tiny else max(3, 256 // counted.batch_size))
    taken, peak, card = bench.peak_memory(), bench.peak_speed(), bench.card_memory()
    counted = replace(counted, unique_texts=step.texts, text_tokens=step.tokens)
    expected = _cost(counted)
    needed = _cost(replace(counted, gradient_checkpointing=False, chunk=None)).operations
    rows = [
        shown(f"{name}: seconds a step", f"{seconds:.3g}"),
        shown(f"{name}: images a second", f"{counted.batch_size / seconds:,.0f}"),
        shown(f"{name}: MFU", _mfu(needed / seconds, peak)),
    ]
    if bench.on_gpu:
        allocated, assumed = taken / GB, expected.memory["assumed overhead"] / GB
        total = expected.total / GB
        rows += [
            near(f"{name}: memory of tensors at the peak", allocated, total - assumed, MEMORY_APART, "GB"),
            at_most(f"{name}: memory taken from the card", card[0] / GB, total * (1 + MEMORY_APART), "GB"),
        ]
    else:
        rows.append(shown(f"{name}: memory", f"not measured on a CPU; counted {expected.total / GB:.3g} GB"))
    return seconds, rows


class _Step:
    """A training step on random pixels, which lie on the device already, and the texts of sampled eyes.

    Attributes:
        texts: number of unique texts of the batch.
        tokens: length of the longest, to which all are filled up.
    """

    def __init__(self, bench: Bench, texts: str, counted: CostSettings) -> None:
        self._device, count = bench.device, counted.batch_size
        encoder = TextEncoder(texts, "full")
        settings = PretrainSettings(
            encoder=counted.encoder,
            image_size=counted.image_size,
            pooling="cls",
            feature_width=counted.feature_width,
            text_training="full",
            gradient_checkpointing=counted.gradient_checkpointing,
            chunk=counted.chunk,
        )
        tower = vision_encoder(counted.encoder, counted.image_size)
        self._model = ContrastiveModel(tower, encoder, settings).to(bench.device).train()
        self._optimizer, self._clip = adamw(self._model, settings), settings.clip_grad
        self._batches = TrainingTexts(text_levels(sampled_records(count), levels="separate"), encoder, bench.device)
        self._pixels = torch.randn(count, 3, counted.image_size, counted.image_size, device=bench.device)
        self._readable = torch.ones(count, dtype=torch.bool, device=bench.device)
        self.texts, self.tokens = self._batches.batch(range(count)).inputs[0].shape

    def __call__(self) -> None:
        """Make one step."""
        batch = self._batches.batch(range(len(self._pixels)))
        with torch.autocast(self._device.type, torch.bfloat16):
            loss = self._model(self._pixels, self._readable, batch)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        self._optimizer.step()
        self._optimizer.zero_grad()


def _mfu(speed: float, peak: float | None) -> str:
    return f"{speed / peak:.1%} of {peak / 1e12:.0f} TFLOP/s" if peak else "the peak of this device is not known"


def _cost(counted: CostSettings) -> Cost:
    return cost(counted, *_encoders(replace(counted, batch_size=0, unique_texts=0, chunk=None)))


@cache  # one image and one text cost the same in every batch
def _encoders(counted: CostSettings) -> tuple[EncoderCost, EncoderCost]:
    return image_encoder_cost(counted), text_encoder_cost(counted)


def _bert(folder: Path, width: int, layers: int) -> str:
    """A BERT of random weights with a real tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(embedded_text_encoder())
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        intermediate_size=4 * width,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _decoding(bench: Bench, size: int, wanted: float) -> Iterator[Finding]:
    """Images a second that are decoded, cropped and resized by a process a core, beside the rate that the card takes."""
    cores = len(os.sched_getaffinity(0))
    count = 16 if bench.tiny else 1024
    manifest = bench.images or generate(
        bench.folder / "eyes", count, seed=0, size=64 if bench.tiny else 512, workers=cores, progress=False
    )
    records = list(read_manifest(manifest))
    records = (records * (count // len(records) + 1))[:count]
    settings = PretrainSettings(image_size=size)
    images = TrainingImages(records, settings.preprocessing, Augmentation(0.7, 0.5, 0.1, 0))
    keys = [[(0, index) for index in range(first, min(first + 8, count))] for first in range(0, count, 8)]
    workers = 0 if bench.tiny else cores
    loader = DataLoader(images, batch_sampler=keys, num_workers=workers, collate_fn=_stacked)
    rate = count / bench.seconds(lambda: sum(map(len, loader)))
    what = "photographs of --images" if bench.images else "drawn eyes"
    yield shown(f"{what} decoded a second, {workers} processes", f"{rate:,.0f}")
    yield shown("the card's fastest rate above, of what is decoded", f"{wanted / rate:.0%}")


def _stacked(items: list[tuple[torch.Tensor, object]]) -> torch.Tensor:
    return torch.stack([pixels for pixels, _ in items])
