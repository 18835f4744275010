"""Readings that train more than a linear probe: an attentive probe, fine-tuning, and prompts learned with few labels.

With a folder `begun` each is kept there after every epoch: a killed one goes on from there to the same numbers, and one that had
ended is only read again.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from mgll.evaluation.features import grids_of
from mgll.evaluation.linear_readings import FEW, fit_chosen, readable_classes
from mgll.evaluation.parts import Parts, choosers, drawn
from mgll.evaluation.reading import Reading
from mgll.evaluation.settings import Blocks, EvaluationSettings
from mgll.evaluation.towers import Tower
from mgll.evaluation.zero_shot import text_reader

ATTENTIVE, FINE_TUNED = "attentive probe", "fine-tuned"
#: Largest share of the training patients with which prompts are learned; with more labels a probe is the better reader.
_FEW_FOR_PROMPTS = 0.1


def trained_readings(
    tower: Tower, parts: Parts, settings: EvaluationSettings, skipped: list[str], begun: Path | None
) -> Iterator[Reading]:
    """The attentive probe and the fine-tunings that are asked for.

    A tower's own digest seeds them, so that the runs of a method differ in that too.
    """
    if not settings.attentive and not settings.fine_tune:
        return
    # here, because torch takes seconds to import
    from mgll.evaluation.attentive import fit_attentive
    from mgll.evaluation.fine_tuning import fine_tuned_scores

    classes, left_out = readable_classes(parts, settings)
    try:
        train, chooses, notes = choosers(classes, parts.train, parts.validation)
    except ValueError as error:
        skipped.append(f"{ATTENTIVE} and fine-tuning: {error}")
        return
    truths, seed = [part.truth(classes) for part in (train, chooses)], int(tower.digest[:8], 16)
    images = [[record.image for record in part.records] for part in (train, chooses, parts.read)]
    if settings.attentive:
        try:
            known = list(dict.fromkeys(image for own in images for image in own))
            grids_known = grids_of(tower, known, settings.cache, settings.precision, settings.batch_size)
            of = dict(zip(known, grids_known, strict=True))
            grids = [[of[image] for image in own] for own in images]
            folder = begun and begun / "attentive"
            probe, said = fit_attentive(grids[0], truths[0], grids[1], truths[1], seed, folder=folder)
            yield parts.read.reading(ATTENTIVE, classes, probe.scores(grids[2]), left_out, notes=(*notes, said))
        except ValueError as error:
            skipped.append(f"{ATTENTIVE}: {error}")
    if settings.fine_tune:
        start, _ = fit_chosen(classes, train, chooses, settings)
    for blocks in settings.fine_tune:
        name, folder = f"{FINE_TUNED}, {_in_words(blocks)}", begun and begun / f"fine-tuned-{blocks}"
        try:
            scores, said = fine_tuned_scores(
                tower, images, truths, start, blocks, seed, settings.fine_tune_epochs, folder
            )
            yield parts.read.reading(name, classes, scores, left_out, notes=(*notes, said))
        except ValueError as error:
            skipped.append(f"{name}: {error}")


def prompt_readings(
    tower: Tower, parts: Parts, settings: EvaluationSettings, skipped: list[str], begun: Path | None
) -> Iterator[Reading]:
    """CoOp and KgCoOp with few labels, beside the probe that gets the same labels; draws of too few labels are skipped, and said.

    Raises:
        ValueError: if the tower brings no text side, or its text encoder can't follow.
        OSError: if its text encoder can't be found.
    """
    if tower.path is None:
        raise ValueError(f"{tower.name} is no tower file and brings no text side")
    # here, because torch takes seconds to import
    from mgll.evaluation.prompt_learning import METHODS, learn_prompts, prompt_scores

    reader = text_reader(tower.path, settings.text_encoder)
    classes, left_out = readable_classes(parts, settings)
    for share in (share for share in settings.shares if share <= _FEW_FOR_PROMPTS):
        for method, draw in product(METHODS, range(settings.draws)):
            name = f"{FEW} {100 * share:g} %, {method}, draw {draw}"
            few = parts.train.where(drawn(parts.train.records, share, draw))
            words = settings.grades, parts.read.records[0].table
            folder = begun and begun / f"{method}-{share:g}-{draw}"
            try:
                few, chooses, notes = choosers(classes, few, parts.validation)
                own = few.features, few.truth(classes), chooses.features, chooses.truth(classes)
                prompts, said = learn_prompts(method, reader, classes, *own, *words, folder)
            except ValueError as error:
                skipped.append(f"{name}: {error}")
                continue
            scores = prompt_scores(prompts, reader, parts.read.features)
            yield parts.read.reading(name, classes, scores, left_out, notes=(*notes, said))


def _in_words(blocks: Blocks) -> str:
    if blocks == "full":
        return "all blocks"
    return "last block" if blocks == 1 else f"last {blocks} blocks"
