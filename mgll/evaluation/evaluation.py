"""What a tower is worth alone: every reading of its frozen features on one manifest.

    from mgll.evaluation import EvaluationSettings, evaluate, tower_file

    found = evaluate(tower_file("mgll.ckpt"), read_manifest("fundus.jsonl"), EvaluationSettings(cache="features"))
    found["probe"].summary().auc

A reading keeps its scores image by image, so that towers and seeds can be compared later (`mgll.evaluation.comparing`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from mgll.evaluation.classes import Grades, classes_of, readable
from mgll.evaluation.features import Precision, features_of, grids_of
from mgll.evaluation.parts import Part, Parts, choosers, drawn
from mgll.evaluation.probe import STRENGTHS, Probe, fit_probe, neighbour_scores
from mgll.evaluation.reading import Reading
from mgll.evaluation.towers import Tower
from mgll.evaluation.zero_shot import Retrieval, retrieval, text_reader, zero_shot_scores
from mgll.images.preprocessing import Decode
from mgll.manifest.records import Record, levels

#: Blocks of a tower that are fine-tuned, counted from the last; `full` is all of the tower.
Blocks = int | Literal["full"]


class NothingToReadError(ValueError):
    """A manifest of which no class can be learned and read."""


PROBE, NEIGHBOURS, MULTI_LABEL, RARE = "probe", "k-NN", "probe, multi-label images", "probe, rare classes"
ATTENTIVE, FINE_TUNED = "attentive probe", "fine-tuned"
LEFT_OUT, FEW, ZERO_SHOT = "left out", "few labels", "zero-shot"
#: Largest share of the training patients with which prompts are learned; with more labels a probe is the better reader.
_FEW_FOR_PROMPTS = 0.1


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
        attentive: also read the grid by an attentive probe.
        fine_tune: also fine-tune so many of the last blocks, each number a reading; `full` is all of the tower.
        fine_tune_epochs: most epochs of each; validation ends it earlier.
        prompt_learning: also learn prompts (CoOp, KgCoOp) with few labels, where the tower brings its text side.
        precision: see `mgll.evaluation.features.features_of`.
        batch_size: images at once.
        decode: how large JPEG files are decoded, `draft` or `exact`, whatever the tower was trained with; None as it was.
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
    attentive: bool = False
    fine_tune: tuple[Blocks, ...] = ()
    fine_tune_epochs: int = 20
    prompt_learning: bool = False
    precision: Precision = "auto"
    batch_size: int = 64
    decode: Decode | None = None


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
    tower = tower.decoding(settings.decode)
    skipped: list[str] = []
    parts = _parts(tower, records, settings, skipped)
    readings = [*_readings(parts, settings, skipped), *_trained(tower, parts, settings, skipped)]
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
            readings += _learned_prompts(tower, parts, settings)
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
    classes = _readable(parts, settings)[0]
    return _fit(classes, parts.train, parts.validation, settings)[0], classes


def _readable(parts: Parts, settings: EvaluationSettings) -> tuple[tuple[str, ...], dict[str, str]]:
    """The classes that are read, and of all others why not."""
    classes, left_out = readable(parts.train.classes, parts.read.classes, settings.min_train, settings.min_read)
    if not classes:
        learned, known = (Counter(code for own in part.classes for code in own) for part in (parts.train, parts.read))
        most = sorted(learned, key=lambda code: (-min(learned[code], known[code]), code))[:4]
        there = ", ".join(f"{code} {learned[code]} and {known[code]}" for code in most)
        raise NothingToReadError(
            f"no class has {settings.min_train} training images and {settings.min_read} of split {settings.split!r}, which a"
            f" probe asks for (--min-train, --min-read); there are of {there}"
        )
    return classes, left_out


def _parts(tower: Tower, records: Sequence[Record], settings: EvaluationSettings, skipped: list[str]) -> Parts:
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
    whole = Part(labelled, features, [classes_of(own.labels, settings.grades, own.table) for own in labelled])
    parts = {name: whole.where([record.split == name for record in labelled]) for name in ("train", "val", "test")}
    return Parts(parts["train"], parts["val"], parts[settings.split], whole)


def _readings(parts: Parts, settings: EvaluationSettings, skipped: list[str]) -> Iterator[Reading]:
    """The readings by probe and neighbours; the first is that of the probe."""
    train, read = parts.train, parts.read
    classes, left_out = _readable(parts, settings)
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


def _trained(tower: Tower, parts: Parts, settings: EvaluationSettings, skipped: list[str]) -> Iterator[Reading]:
    """The readings that train more than a linear probe.

    A tower's own digest seeds them, so that the runs of a method differ in that too.
    """
    if not settings.attentive and not settings.fine_tune:
        return
    # here, because torch takes seconds to import
    from mgll.evaluation.attentive import fit_attentive
    from mgll.evaluation.fine_tuning import fine_tuned_scores

    classes, left_out = _readable(parts, settings)
    train, chooses, notes = choosers(classes, parts.train, parts.validation)
    truths, seed = [part.truth(classes) for part in (train, chooses)], int(tower.digest[:8], 16)
    images = [[record.image for record in part.records] for part in (train, chooses, parts.read)]
    if settings.attentive:
        try:
            known = list(dict.fromkeys(image for own in images for image in own))
            of = dict(
                zip(known, grids_of(tower, known, settings.cache, settings.precision, settings.batch_size), strict=True)
            )
            grids = [[of[image] for image in own] for own in images]
            probe, said = fit_attentive(grids[0], truths[0], grids[1], truths[1], seed)
            yield _reading(ATTENTIVE, classes, parts.read, probe.scores(grids[2]), left_out, notes=(*notes, said))
        except ValueError as error:
            skipped.append(f"{ATTENTIVE}: {error}")
    if settings.fine_tune:
        start, _ = _fit(classes, train, chooses, settings)
    for blocks in settings.fine_tune:
        name = f"{FINE_TUNED}, {'all blocks' if blocks == 'full' else f'last {blocks} blocks'}".replace(
            " 1 blocks", " block"
        )
        try:
            scores, said = fine_tuned_scores(tower, images, truths, start, blocks, seed, settings.fine_tune_epochs)
            yield _reading(name, classes, parts.read, scores, left_out, notes=(*notes, said))
        except ValueError as error:
            skipped.append(f"{name}: {error}")


def _learned_prompts(tower: Tower, parts: Parts, settings: EvaluationSettings) -> Iterator[Reading]:
    """CoOp and KgCoOp with few labels, beside the probe that gets the same labels."""
    if tower.path is None:
        raise ValueError(f"{tower.name} is no tower file and brings no text side")
    # here, because torch takes seconds to import
    from mgll.evaluation.prompt_learning import METHODS, learn_prompts, prompt_scores

    reader = text_reader(tower.path, settings.text_encoder)
    classes, left_out = _readable(parts, settings)
    for share in (share for share in settings.shares if share <= _FEW_FOR_PROMPTS):
        for method, draw in product(METHODS, range(settings.draws)):
            few = parts.train.where(drawn(parts.train.records, share, draw))
            few, chooses, notes = choosers(classes, few, parts.validation)
            own = few.features, few.truth(classes), chooses.features, chooses.truth(classes)
            prompts, said = learn_prompts(method, reader, classes, *own, settings.grades, parts.read.records[0].table)
            scores = prompt_scores(prompts, reader, parts.read.features)
            name = f"{FEW} {100 * share:.0f} %, {method}, draw {draw}"
            yield _reading(name, classes, parts.read, scores, left_out, notes=(*notes, said))


def _left_out(source: str, parts: Parts, settings: EvaluationSettings, skipped: list[str]) -> Iterator[Reading]:
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
    train: Part,
    parts: Parts,
    settings: EvaluationSettings,
) -> Reading:
    """Fit on some training images with the strength that validation chooses, and read."""
    probe, notes = _fit(classes, train, parts.validation, settings)
    if without := [classes[column] for column in probe.not_fitted]:
        notes += (f"no image to learn from, or no other, and therefore equal scores: {', '.join(without)}",)
    scores = probe.scores(parts.read.features)
    return _reading(name, classes, parts.read, scores, left_out, probe.strength, notes)


def _fit(
    classes: tuple[str, ...], train: Part, validation: Part, settings: EvaluationSettings
) -> tuple[Probe, tuple[str, ...]]:
    truth, judges = train.truth(classes), validation.truth(classes)
    if len(settings.strengths) == 1 or any(0 < column.sum() < len(column) for column in judges.T):
        return fit_probe(train.features, truth, validation.features, judges, settings.strengths), ()
    # Patients of the training split choose, and the probe is then fitted on all of it.
    fitted, chooses, notes = choosers(classes, train, validation)
    chosen = fit_probe(
        fitted.features, fitted.truth(classes), chooses.features, chooses.truth(classes), settings.strengths
    )
    once = fit_probe(train.features, truth, validation.features, judges, [chosen.strength])
    return replace(once, tried=chosen.tried), notes


def _with_texts(
    tower: Tower, read: Part, classes: tuple[str, ...], left_out: Mapping[str, str], settings: EvaluationSettings
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
    read: Part,
    scores: np.ndarray,
    left_out: Mapping[str, str],
    strength: float | None = None,
    notes: tuple[str, ...] = (),
) -> Reading:
    images, patients = (tuple(getattr(record, key) for record in read.records) for key in ("image", "patient"))
    return Reading(name, classes, images, patients, read.truth(classes), scores, left_out, strength, notes)
