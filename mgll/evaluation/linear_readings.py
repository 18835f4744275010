"""Readings by linear probe and neighbours: of all labels, of few, of some images or classes alone, and of sources left out."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from mgll.evaluation.classes import readable
from mgll.evaluation.parts import Part, Parts, choosers, drawn
from mgll.evaluation.probe import Probe, fit_probe, neighbour_scores
from mgll.evaluation.reading import Reading
from mgll.evaluation.settings import EvaluationSettings

PROBE, NEIGHBOURS, MULTI_LABEL, RARE = "probe", "k-NN", "probe, multi-label images", "probe, rare classes"
LEFT_OUT, FEW = "left out", "few labels"


class NothingToReadError(ValueError):
    """A manifest of which no class can be learned and read."""


def readable_classes(parts: Parts, settings: EvaluationSettings) -> tuple[tuple[str, ...], dict[str, str]]:
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


def linear_readings(parts: Parts, settings: EvaluationSettings, skipped: list[str]) -> Iterator[Reading]:
    """The readings by probe and neighbours; the first is that of the probe."""
    train, read = parts.train, parts.read
    classes, left_out = readable_classes(parts, settings)
    whole = _probe_reading(PROBE, classes, left_out, train, parts, settings)
    if settings.split == "val":
        whole = replace(whole, notes=(*whole.notes, "the strength was chosen on the very images that are read"))
    yield whole
    scores = neighbour_scores(train.features, train.truth(classes), read.features, settings.neighbours)
    yield read.reading(NEIGHBOURS, classes, scores, left_out)
    learned = train.truth(classes).sum(axis=0)
    rare = {code for code, count in zip(classes, learned, strict=True) if count < settings.rare}
    several = np.array([len(own) > 1 for own in read.classes])
    if mixed := whole.among(MULTI_LABEL, images=several, least=settings.min_read):
        yield mixed
    elif several.any():
        why = f"no class has {settings.min_read} of these {several.sum()} images, and as many without"
        skipped.append(f"{MULTI_LABEL}: {why}")
    else:
        skipped.append(f"{MULTI_LABEL}: no image read has more than one class")
    if 0 < len(rare) < len(classes):
        yield whole.among(RARE, classes=rare)  # type: ignore[misc]  # every class of the probe can be read
    else:
        every = (
            f"{settings.rare} training images or more" if not rare else f"fewer than {settings.rare} training images"
        )
        skipped.append(f"{RARE}: every class has {every}")
    for share in settings.shares:
        for draw in range(settings.draws):
            few = train.where(drawn(train.records, share, draw))
            name = f"{FEW} {100 * share:g} %, draw {draw}"
            try:
                yield _probe_reading(name, classes, left_out, few, parts, settings)
            except ValueError as error:  # these few patients can't choose a strength
                skipped.append(f"{name}: {error}")
    sources = sorted({record.source for record in train.records + read.records})  # type: ignore[operator]
    if settings.leave_source_out and len(sources) < 2:
        skipped.append(f"{LEFT_OUT}: all images are of one source")
    elif settings.leave_source_out:
        for source in sources:
            yield from _left_out(source, parts, settings, skipped)


def _left_out(source: str, parts: Parts, settings: EvaluationSettings, skipped: list[str]) -> Iterator[Reading]:
    others = parts.without(source, settings.left_out_images == "all")
    classes, left_out = readable(others.train.classes, others.read.classes, settings.min_train, settings.min_read)
    name = f"{LEFT_OUT} {source or 'without a name'}"
    if not classes:
        skipped.append(
            f"{name}: none of its classes has {settings.min_read} images with it and without it there and"
            f" {settings.min_train} elsewhere"
        )
        return
    try:
        yield _probe_reading(name, classes, left_out, others.train, others, settings)
    except ValueError as error:  # no image of the other sources can choose a strength
        skipped.append(f"{name}: {error}")


def _probe_reading(
    name: str,
    classes: tuple[str, ...],
    left_out: Mapping[str, str],
    train: Part,
    parts: Parts,
    settings: EvaluationSettings,
) -> Reading:
    """Fit on some training images with the strength that validation chooses, and read."""
    probe, notes = fit_chosen(classes, train, parts.validation, settings)
    if without := [classes[column] for column in probe.not_fitted]:
        notes += (f"no image to learn from, or no other, and therefore equal scores: {', '.join(without)}",)
    scores = probe.scores(parts.read.features)
    return parts.read.reading(name, classes, scores, left_out, probe.strength, notes)


def fit_chosen(
    classes: tuple[str, ...], train: Part, validation: Part, settings: EvaluationSettings
) -> tuple[Probe, tuple[str, ...]]:
    """The probe of some training images with the strength that validation chooses, and what there is to say of it."""
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
