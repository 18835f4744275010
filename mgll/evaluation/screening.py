"""Objectives screened on a frozen tower: only a small adapter behind its features is trained, which takes seconds, not hours.

Every objective of pretraining is trained against the same texts as there, in batches of the same kind. What a screen shows of
class names asked without a label comes out alike when the whole tower is trained; what it shows of a linear probe hardly moves,
because an adapter can't make features that the tower lacks (docs/objective.md). It picks candidates, and proves nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import get_cosine_schedule_with_warmup

from mgll.encoders.text import TextEncoder
from mgll.evaluation.evaluation import labelled, parts_of, zero_shot_readings
from mgll.evaluation.features import features_of
from mgll.evaluation.linear_readings import linear_readings
from mgll.evaluation.reading import Reading
from mgll.evaluation.settings import EvaluationSettings
from mgll.evaluation.towers import Tower
from mgll.evaluation.zero_shot import TextReader
from mgll.manifest.records import Record
from mgll.objective import Level, Objective
from mgll.settings import ObjectiveSettings
from mgll.tower.text_side import TextFacts, TextSide
from mgll.training.data import text_levels
from mgll.training.text_corruption import corrupt_texts
from mgll.training.texts import TrainingTexts

#: Share of the steps in which the learning rate rises.
_WARMUP = 0.1


@dataclass(frozen=True)
class ScreenSettings:
    """How the adapter is trained; the same for all objectives that are to be compared.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: AdamW's peak learning rate.
        weight_decay: AdamW's.
        widening: channels inside the adapter for each of the tower's.
        feature_width: width of the space that images and texts share.
        wrong_texts: share of the training images' levels that get another image's texts (`mgll.training.text_corruption`).
        missing_texts: share of these levels that are taken away.
    """

    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    widening: int = 2
    feature_width: int = 256
    wrong_texts: float = 0.0
    missing_texts: float = 0.0


class Adapter(nn.Module):
    """Two layers beside a shortcut, between a tower's standardised features and a projection; it begins as the identity."""

    def __init__(self, width: int, text_width: int, settings: ScreenSettings) -> None:
        super().__init__()
        inside = settings.widening * width
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, inside), nn.GELU(), last := nn.Linear(inside, width)
        )
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.image_projection = nn.Linear(width, settings.feature_width, bias=False)
        self.text_projection = nn.Linear(text_width, settings.feature_width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Adapted features [n, width] of features [n, width]."""
        return features + self.layers(features)


def screen(
    tower: Tower,
    records: Sequence[Record],
    objective: ObjectiveSettings,
    seed: int,
    settings: ScreenSettings,
    reading: EvaluationSettings,
    encoder: TextEncoder,
) -> dict[str, Reading]:
    """Train an adapter behind a frozen tower with an objective, and read its features as `evaluate` reads a tower's.

    Args:
        tower: the tower; its features are computed once and kept in `reading.cache`.
        records: images of the splits `train`, `val` and, if it is read, `test`.
        objective: the objective.
        seed: of weights, order and drawn texts.
        settings: of the training.
        reading: what is read, and how.
        encoder: the text encoder, frozen.

    Returns:
        Name of a reading -> reading: those by probe and neighbours, and zero-shot ones.

    Raises:
        ImageError: for an image that cannot be read.
        NothingToReadError: if no class can be learned and read.
        ValueError: if no training image has a text, or there are fewer training images than a batch has.
    """
    features = features_of(
        tower, [record.image for record in records], reading.cache, reading.precision, reading.batch_size
    )
    learned = [row for row, record in enumerate(records) if record.split == "train"]
    mean, deviation = features[learned].mean(axis=0), features[learned].std(axis=0)
    scaled = torch.from_numpy((features - mean) / np.where(deviation == 0, 1, deviation))
    own = list(
        corrupt_texts([records[row] for row in learned], settings.wrong_texts, settings.missing_texts, seed=seed)
    )
    adapter, side = train_adapter(scaled[learned], own, objective, seed, settings, encoder)
    with torch.no_grad():
        adapted = adapter(scaled).numpy()
    parts = parts_of(labelled(records, reading), adapted[[bool(record.labels) for record in records]], reading)
    readings = list(linear_readings(parts, reading, []))
    classes, left_out = readings[0].classes, readings[0].left_out
    readings += zero_shot_readings(TextReader(side, encoder), parts.read, classes, left_out, reading)
    return {found.name: found for found in readings}


def train_adapter(
    features: Tensor,
    records: Sequence[Record],
    objective: ObjectiveSettings,
    seed: int,
    settings: ScreenSettings,
    encoder: TextEncoder,
) -> tuple[Adapter, TextSide]:
    """An adapter trained against the records' texts, and the text side that belongs to it; both on the CPU.

    Args:
        features: of the training images [n, width], standardised.
        records: the training images [n].
        objective: the objective.
        seed: of weights, order and drawn texts.
        settings: of the training.
        encoder: the text encoder, frozen.

    Raises:
        ValueError: if no image has a text, or there are fewer images than a batch has.
    """
    steps = len(records) // settings.batch_size
    if not steps:
        raise ValueError(f"{len(records)} training images are fewer than batch_size {settings.batch_size}")
    levels = text_levels(records, objective.levels)
    texts = TrainingTexts(levels, encoder, "cpu")
    torch.manual_seed(seed)
    adapter, loss = Adapter(features.shape[1], encoder.width, settings), Objective(objective)
    trained = [weight for weight in (*adapter.parameters(), *loss.parameters()) if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, settings.learning_rate, weight_decay=settings.weight_decay)
    total = steps * settings.epochs
    schedule = get_cosine_schedule_with_warmup(optimizer, round(_WARMUP * total), total)
    random = np.random.default_rng(seed)
    draw = random if objective.levels == "single" else None
    for _ in range(settings.epochs):
        order = random.permutation(len(records))[: steps * settings.batch_size]
        for rows in order.reshape(steps, settings.batch_size):
            batch = texts.batch(rows.tolist(), draw)
            seen = normalize(adapter.image_projection(adapter(features[rows])), dim=1)
            said = normalize(adapter.text_projection(*batch.inputs), dim=1)
            compared = {name: Level(said[own], batch.incidences[name]) for name, own in batch.columns.items()}
            optimizer.zero_grad()
            loss(seen, compared, batch.groups)["loss"].backward()
            optimizer.step()
            schedule.step()
    facts = TextFacts(
        encoder="embedded",
        pooling=encoder.pooling,
        width=encoder.width,
        feature_width=settings.feature_width,
        temperature=1 / loss.logit_scale().item(),
        bias=loss.bias.item(),
        levels=tuple(levels),
    )
    image, text = (layer.weight.detach() for layer in (adapter.image_projection, adapter.text_projection))
    return adapter.eval(), TextSide(facts, image, text)
