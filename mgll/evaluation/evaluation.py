"""What a tower is worth alone: every reading of its frozen features on one manifest.

    from mgll.evaluation import EvaluationSettings, evaluate, tower_file

    found = evaluate(tower_file("mgll.ckpt"), read_manifest("fundus.jsonl"), EvaluationSettings(cache="features"))
    found["probe"].summary().auc

A reading keeps its scores image by image, so that towers and seeds can be compared later (`mgll.evaluation.comparing`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mgll.evaluation.classes import classes_of
from mgll.evaluation.features import features_of
from mgll.evaluation.linear_readings import NothingToReadError, fit_chosen, linear_readings, readable_classes
from mgll.evaluation.parts import Part, Parts
from mgll.evaluation.probe import Probe
from mgll.evaluation.reading import Reading
from mgll.evaluation.settings import EvaluationSettings
from mgll.evaluation.towers import Tower
from mgll.evaluation.trained_readings import prompt_readings, trained_readings
from mgll.evaluation.zero_shot import Retrieval, TextReader, retrieval, text_reader, zero_shot_scores
from mgll.manifest.records import Record, levels

ZERO_SHOT = "zero-shot"


@dataclass(frozen=True)
class Evaluation:
    """All readings of one tower on one manifest.

    Attributes:
        tower: its name.
        digest: hex SHA-256 of its weights.
        readings: by name: `probe`, `k-NN`, `probe, multi-label images`, `probe, rare classes`, `left out SOURCE`,
            `few labels 1 %, draw 0` and `zero-shot, LEVEL`; where asked for, `attentive probe`, `fine-tuned, all blocks`,
            `fine-tuned, last 2 blocks` and `few labels 1 %, CoOp, draw 0`.
        retrieval: by granularity, where the tower brings its text side.
        strength: inverse strength C of the probe.
        skipped: what could not be read, a sentence each.
    """

    tower: str
    digest: str
    readings: Mapping[str, Reading]
    retrieval: Mapping[str, Retrieval]
    strength: float
    skipped: tuple[str, ...]

    def __getitem__(self, name: str) -> Reading:
        return self.readings[name]

    def named(self, beginning: str) -> tuple[Reading, ...]:
        """The readings whose names begin like this, such as all of left-out sources."""
        return tuple(reading for name, reading in self.readings.items() if name.startswith(beginning))


def evaluate(
    tower: Tower, records: Sequence[Record], settings: EvaluationSettings | None = None, begun: Path | None = None
) -> Evaluation:
    """Every reading of a tower's frozen features on the images of a manifest.

    Args:
        tower: the tower.
        records: all images of the manifest: fitted on `train`, chosen by `val`, read on `settings.split`.
        settings: how.
        begun: folder in which what is trained is kept after each epoch, so that the same call goes on there after a kill. It is for
            this very evaluation alone: delete it afterwards, and whenever tower, images or settings change. None keeps nothing.

    Raises:
        ImageError: for an image that cannot be read.
        NothingToReadError: if a split has no labelled image, or no class can be learned and read.
    """
    settings = settings or EvaluationSettings()
    tower = tower.decoding(settings.decode)
    skipped: list[str] = []
    parts = _parts(tower, records, settings, skipped)
    readings = list(linear_readings(parts, settings, skipped))
    readings += trained_readings(tower, parts, settings, skipped, begun)
    found: dict[str, Retrieval] = {}
    if settings.zero_shot:
        classes, left_out = readings[0].classes, readings[0].left_out
        try:
            texts, found = _with_texts(tower, parts.read, classes, left_out, settings)
            readings += texts
        except (ValueError, OSError) as error:
            skipped.append(f"{ZERO_SHOT} and retrieval: {error}")
    if settings.prompt_learning:
        try:
            readings += prompt_readings(tower, parts, settings, skipped, begun)
        except (ValueError, OSError) as error:
            skipped.append(f"prompt learning: {error}")
    strength = readings[0].strength
    assert strength is not None
    by_name = {reading.name: reading for reading in readings}
    return Evaluation(tower.name, tower.digest, by_name, found, strength, tuple(skipped))


def fitted_probe(
    tower: Tower, records: Sequence[Record], settings: EvaluationSettings | None = None
) -> tuple[Probe, tuple[str, ...]]:
    """The probe that `evaluate` reads by, and the class of each of its columns; raises what `evaluate` does."""
    settings = settings or EvaluationSettings()
    parts = _parts(tower.decoding(settings.decode), records, settings, [])
    classes = readable_classes(parts, settings)[0]
    return fit_chosen(classes, parts.train, parts.validation, settings)[0], classes


def _parts(tower: Tower, records: Sequence[Record], settings: EvaluationSettings, skipped: list[str]) -> Parts:
    """The labelled images of each split with their features."""
    own = labelled(records, settings)
    if len(own) < len(records):
        without = len(records) - len(own)
        skipped.append(f"{without} image{'s' * (without != 1)} without a label")
    images = [record.image for record in own]
    return parts_of(own, features_of(tower, images, settings.cache, settings.precision, settings.batch_size), settings)


def labelled(records: Sequence[Record], settings: EvaluationSettings) -> list[Record]:
    """The images that can be fitted on or read.

    Raises:
        NothingToReadError: if `train`, or the split that is read, has none.
    """
    own = [record for record in records if record.labels]
    for split in ("train", settings.split):
        if not any(record.split == split for record in own):
            raise NothingToReadError(
                f"no image of split {split!r} has a label; a probe needs `labels`, not texts alone"
            )
    return own


def parts_of(records: Sequence[Record], features: np.ndarray, settings: EvaluationSettings) -> Parts:
    """Labelled images by split, with their features [len(records), width]."""
    whole = Part(records, features, [classes_of(own.labels, settings.grades, own.table) for own in records])
    parts = {name: whole.where([record.split == name for record in records]) for name in ("train", "val", "test")}
    return Parts(parts["train"], parts["val"], parts[settings.split], whole)


def _with_texts(
    tower: Tower, read: Part, classes: tuple[str, ...], left_out: Mapping[str, str], settings: EvaluationSettings
) -> tuple[list[Reading], dict[str, Retrieval]]:
    """Zero-shot readings and retrieval."""
    if tower.path is None:
        raise ValueError(f"{tower.name} is no tower file and brings no text side")
    reader = text_reader(tower.path, settings.text_encoder)
    readings = zero_shot_readings(reader, read, classes, left_out, settings)
    texts = {level: [record.texts.get(level, ()) for record in read.records] for level in levels(read.records)}
    texts["caption"] = [tuple(filter(None, [record.caption])) for record in read.records]
    asked = {level: retrieval(reader, read.features, own, level) for level, own in texts.items()}
    return readings, {level: found for level, found in asked.items() if found is not None}


def zero_shot_readings(
    reader: TextReader,
    read: Part,
    classes: tuple[str, ...],
    left_out: Mapping[str, str],
    settings: EvaluationSettings,
) -> list[Reading]:
    """The readings of images by the names of classes, one for each granularity of the prompts."""
    scores = zero_shot_scores(reader, read.features, classes, settings.grades, read.records[0].table)
    return [read.reading(f"{ZERO_SHOT}, {level}", classes, own, left_out) for level, own in scores.items()]
