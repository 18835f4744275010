"""What a tower is worth alone: every reading of its frozen features on one manifest.

    from mgll.evaluation import EvaluationSettings, evaluate, tower_file

    found = evaluate(tower_file("mgll.ckpt"), read_manifest("fundus.jsonl"), EvaluationSettings(cache="features"))
    found["probe"].summary().auc

A reading keeps its scores image by image, so that towers and seeds can be compared later (`mgll.evaluation.comparing`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mgll.evaluation.classes import Grades, classes_of, readable, truth_of
from mgll.evaluation.features import Precision, features_of
from mgll.evaluation.probe import STRENGTHS, Probe, fit_probe, neighbour_scores
from mgll.evaluation.reading import Reading
from mgll.evaluation.towers import Tower
from mgll.evaluation.zero_shot import Retrieval, retrieval, text_reader, zero_shot_scores
from mgll.manifest.records import Record, levels


class NothingToReadError(ValueError):
    """A manifest of which no class can be learned and read."""


PROBE, NEIGHBOURS, MULTI_LABEL, RARE = "probe", "k-NN", "probe, multi-label images", "probe, rare classes"
LEFT_OUT, FEW, ZERO_SHOT = "left out", "few labels", "zero-shot"
#: Share of the training patients by whom the strength is chosen where the manifest has no validation split.
_HELD_OUT = 0.2


@dataclass(frozen=True)
class EvaluationSettings:
    """How a tower is evaluated; the same for all towers that are to be compared.

    Attributes:
        cache: folder of the features' cache.
        split: the images that are read. With `val` they are those by which the probe's strength is chosen too.
        grades: `fold` grades into what they grade, or `keep` them as classes of their own.
        min_train: training images that a class must have, and lack.
        min_read: images that a class must have among those that are read, and lack.
        strengths: inverse strengths C of the probe, from which validation chooses.
        neighbours: of the k-NN.
        shares: shares of the training patients whose labels the few-label probes get.
        draws: seeded draws of each share. Every share of a draw holds the smaller ones.
        leave_source_out: also fit on all sources but one and read on that one.
        left_out_images: read the left-out source's images of `split` alone, or `all`, if pretraining has not seen it either.
        rare: a class with fewer training images is rare.
        zero_shot: also read by class names, where the tower brings its text side.
        text_encoder: folder of that text encoder, where it has moved since.
        precision: see `mgll.evaluation.features.features_of`.
        batch_size: images at once.
    """

    cache: str = "runs/features"
    split: Literal["val", "test"] = "test"
    grades: Grades = "fold"
    min_train: int = 30
    min_read: int = 5
    strengths: tuple[float, ...] = STRENGTHS
    neighbours: int = 20
    shares: tuple[float, ...] = (0.01, 0.05, 0.1, 0.5)
    draws: int = 3
    leave_source_out: bool = True
    left_out_images: Literal["split", "all"] = "split"
    rare: int = 150
    zero_shot: bool = True
    text_encoder: str | None = None
    precision: Precision = "auto"
    batch_size: int = 64


@dataclass(frozen=True)
class Evaluation:
    """All readings of one tower on one manifest.

    Attributes:
        tower: its name.
        digest: hex SHA-256 of its weights.
        readings: by name: `probe`, `k-NN`, `probe, multi-label images`, `probe, rare classes`, `left out SOURCE`,
            `few labels 1 %, draw 0` and `zero-shot, LEVEL`.
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


@dataclass(frozen=True)
class _Part:
    """Images with their features [n, width] and classes."""

    records: Sequence[Record]
    features: np.ndarray
    classes: Sequence[set[str]]

    def where(self, kept: Sequence[bool] | np.ndarray) -> "_Part":
        rows = np.flatnonzero(kept).tolist()
        return _Part([self.records[i] for i in rows], self.features[rows], [self.classes[i] for i in rows])

    def truth(self, classes: Sequence[str]) -> np.ndarray:
        return truth_of(classes, self.classes)


@dataclass(frozen=True)
class _Parts:
    """The images that are fitted on, those that choose, and those that are read."""

    train: _Part
    validation: _Part
    read: _Part
    whole: _Part

    def without(self, source: str, all_of_it: bool) -> "_Parts":
        """Fitted and chosen on all other sources, and read on this one."""
        train, validation = (
            part.where([record.source != source for record in part.records]) for part in (self.train, self.validation)
        )
        read = self.whole if all_of_it else self.read
        return _Parts(train, validation, read.where([record.source == source for record in read.records]), self.whole)


def evaluate(tower: Tower, records: Sequence[Record], settings: EvaluationSettings | None = None) -> Evaluation:
    """Every reading of a tower's frozen features on the images of a manifest.

    Args:
        tower: the tower.
        records: all images of the manifest: fitted on `train`, chosen by `val`, read on `settings.split`.
        settings: how.

    Raises:
        ImageError: for an image that cannot be read.
        NothingToReadError: if a split has no labelled image, or no class can be learned and read.
    """
    settings = settings or EvaluationSettings()
    skipped: list[str] = []
    parts = _parts(tower, records, settings, skipped)
    readings = [*_readings(parts, settings, skipped)]
    found: dict[str, Retrieval] = {}
    if settings.zero_shot:
        classes, left_out = readings[0].classes, readings[0].left_out
        try:
            texts, found = _with_texts(tower, parts.read, classes, left_out, settings)
            readings += texts
        except (ValueError, OSError) as error:
            skipped.append(f"{ZERO_SHOT} and retrieval: {error}")
    strength = readings[0].strength
    assert strength is not None
    by_name = {reading.name: reading for reading in readings}
    return Evaluation(tower.name, tower.digest, by_name, found, strength, tuple(skipped))


def _parts(tower: Tower, records: Sequence[Record], settings: EvaluationSettings, skipped: list[str]) -> _Parts:
    """The labelled images of each split with their features."""
    labelled = [record for record in records if record.labels]
    for split in ("train", settings.split):
        if not any(record.split == split for record in labelled):
            raise NothingToReadError(
                f"no image of split {split!r} has a label; a probe needs `labels`, not texts alone"
            )
    if len(labelled) < len(records):
        skipped.append(f"{len(records) - len(labelled)} images without a label")
    images = [record.image for record in labelled]
    features = features_of(tower, images, settings.cache, settings.precision, settings.batch_size)
    whole = _Part(labelled, features, [classes_of(own.labels, settings.grades, own.table) for own in labelled])
    parts = {name: whole.where([record.split == name for record in labelled]) for name in ("train", "val", "test")}
    return _Parts(parts["train"], parts["val"], parts[settings.split], whole)


def _readings(parts: _Parts, settings: EvaluationSettings, skipped: list[str]) -> Iterator[Reading]:
    """The readings by probe and neighbours; the first is that of the probe."""
    train, read = parts.train, parts.read
    classes, left_out = readable(train.classes, read.classes, settings.min_train, settings.min_read)
    if not classes:
        learned, known = (Counter(code for own in part.classes for code in own) for part in (train, read))
        most = sorted(learned, key=lambda code: (-min(learned[code], known[code]), code))[:4]
        there = ", ".join(f"{code} {learned[code]} and {known[code]}" for code in most)
        raise NothingToReadError(
            f"no class has {settings.min_train} training images and {settings.min_read} of split {settings.split!r}, which a"
            f" probe asks for (--min_train, --min_read); there are of {there}"
        )
    whole = _probe_reading(PROBE, classes, left_out, train, parts, settings)
    if settings.split == "val":
        whole = replace(whole, notes=(*whole.notes, "the strength was chosen on the very images that are read"))
    yield whole
    scores = neighbour_scores(train.features, train.truth(classes), read.features, settings.neighbours)
    yield _reading(NEIGHBOURS, classes, read, scores, left_out)
    learned = train.truth(classes).sum(axis=0)
    rare = {code for code, count in zip(classes, learned, strict=True) if count < settings.rare}
    several = np.array([len(own) > 1 for own in read.classes])
    for part in (
        whole.among(MULTI_LABEL, images=several, least=settings.min_read),
        whole.among(RARE, classes=rare),
    ):
        if part is not None:
            yield part
    if not rare:
        skipped.append(f"{RARE}: every class has {settings.rare} training images or more")
    if not several.any():
        skipped.append(f"{MULTI_LABEL}: no image read has more than one class")
    for share in settings.shares:
        for draw in range(settings.draws):
            few = train.where(drawn(train.records, share, draw))
            name = f"{FEW} {share:.0%}, draw {draw}".replace("%", " %")
            yield _probe_reading(name, classes, left_out, few, parts, settings)
    sources = sorted({record.source for record in train.records + read.records})  # type: ignore[operator]
    if settings.leave_source_out and len(sources) < 2:
        skipped.append(f"{LEFT_OUT}: all images are of one source")
    elif settings.leave_source_out:
        for source in sources:
            yield from _left_out(source, parts, settings, skipped)


def _left_out(source: str, parts: _Parts, settings: EvaluationSettings, skipped: list[str]) -> Iterator[Reading]:
    others = parts.without(source, settings.left_out_images == "all")
    classes, left_out = readable(others.train.classes, others.read.classes, settings.min_train, settings.min_read)
    name = f"{LEFT_OUT} {source or 'without a name'}"
    if classes:
        yield _probe_reading(name, classes, left_out, others.train, others, settings)
    else:
        skipped.append(
            f"{name}: none of its classes has {settings.min_read} images with it and without it there and"
            f" {settings.min_train} elsewhere"
        )


def _probe_reading(
    name: str,
    classes: tuple[str, ...],
    left_out: Mapping[str, str],
    train: _Part,
    parts: _Parts,
    settings: EvaluationSettings,
) -> Reading:
    """Fit on some training images with the strength that validation chooses, and read."""
    probe, notes = _fit(classes, train, parts.validation, settings)
    if without := [classes[column] for column in probe.not_fitted]:
        notes += (f"no image to learn from, or no other, and therefore equal scores: {', '.join(without)}",)
    scores = probe.scores(parts.read.features)
    return _reading(name, classes, parts.read, scores, left_out, probe.strength, notes)


def _fit(
    classes: tuple[str, ...], train: _Part, validation: _Part, settings: EvaluationSettings
) -> tuple[Probe, tuple[str, ...]]:
    truth, judges = train.truth(classes), validation.truth(classes)
    if len(settings.strengths) == 1 or any(0 < column.sum() < len(column) for column in judges.T):
        return fit_probe(train.features, truth, validation.features, judges, settings.strengths), ()
    # Patients of the training split choose, and the probe is then fitted on all of it.
    apart = drawn(train.records, _HELD_OUT, seed=0)
    fitted, chooses = train.where(~apart), train.where(apart)
    if not any(0 < column.sum() < len(column) for column in chooses.truth(classes).T):
        raise ValueError("split 'val' has no image by which a strength could be chosen; give a single one (strengths)")
    chosen = fit_probe(
        fitted.features, fitted.truth(classes), chooses.features, chooses.truth(classes), settings.strengths
    )
    note = f"no image of split 'val': {int(apart.sum())} training images of other patients chose the strength"
    once = fit_probe(train.features, truth, validation.features, judges, [chosen.strength])
    return replace(once, tried=chosen.tried), (note,)


def drawn(records: Sequence[Record], share: float, seed: int) -> np.ndarray:
    """Whether each record is of a patient who is drawn [n], bool; at least one is. A larger share of one seed holds the smaller."""
    patients = list(dict.fromkeys(record.patient for record in records))
    order = np.random.default_rng(seed).permutation(len(patients))
    chosen = {patients[number] for number in order[: max(1, round(share * len(patients)))]}
    return np.array([record.patient in chosen for record in records], dtype=bool)


def _with_texts(
    tower: Tower, read: _Part, classes: tuple[str, ...], left_out: Mapping[str, str], settings: EvaluationSettings
) -> tuple[list[Reading], dict[str, Retrieval]]:
    """Zero-shot readings and retrieval."""
    if tower.path is None:
        raise ValueError(f"{tower.name} is no tower file and brings no text side")
    reader = text_reader(tower.path, settings.text_encoder)
    scores = zero_shot_scores(reader, read.features, classes, settings.grades, read.records[0].table)
    readings = [_reading(f"{ZERO_SHOT}, {level}", classes, read, own, left_out) for level, own in scores.items()]
    texts = {level: [record.texts.get(level, ()) for record in read.records] for level in levels(read.records)}
    texts["caption"] = [tuple(filter(None, [record.caption])) for record in read.records]
    asked = {level: retrieval(reader, read.features, own, level) for level, own in texts.items()}
    return readings, {level: found for level, found in asked.items() if found is not None}


def _reading(
    name: str,
    classes: tuple[str, ...],
    read: _Part,
    scores: np.ndarray,
    left_out: Mapping[str, str],
    strength: float | None = None,
    notes: tuple[str, ...] = (),
) -> Reading:
    images, patients = (tuple(getattr(record, key) for record in read.records) for key in ("image", "patient"))
    return Reading(name, classes, images, patients, read.truth(classes), scores, left_out, strength, notes)
