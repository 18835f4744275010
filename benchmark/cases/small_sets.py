"""What a small set of images gives: questions with fewer images a class, or about every image in turn by folds over patients.

Three hundred photographs, of which a tenth validates and a fifth tests, leave a class of the test split two or three images.
Cross-fitting asks about all of them: the patients are parted into folds, and a model that is asked about a fold has learned from
the others.
"""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Unpack

import numpy as np

from benchmark.cases.building import build_cases
from benchmark.cases.case import Case, write_cases
from benchmark.cases.overlap import OverlapCheck, OverlapError
from benchmark.options.draw import Design, Drawing, TooFewImagesError, class_counts, draw, member_codes
from mgll.formats import read_header
from mgll.manifest.contradictions import contradictions_of
from mgll.manifest.records import Record, read_manifest, stored_under, write_manifest

#: Questions and images of a class that balanced options ask for where nobody says otherwise.
_USUAL = 5
#: Balanced options ask about the images of some classes more often than about others: so many times as many questions are tried.
_TIMES = (1, 1.25, 1.5, 2, 3)


@dataclass(frozen=True)
class Fold:
    """One part of the patients.

    Attributes:
        folder: holds `manifest.jsonl` (the fold is `test`, all else `train`), `train.jsonl` and `test.jsonl`.
        images: images of the fold.
        training: training questions, about the images of all other folds.
        cases: questions about the images of the fold.
    """

    folder: Path
    images: int
    training: int
    cases: int


def what_is_possible(records: Sequence[Record], split: str, folds: int = 5, **design: Unpack[Design]) -> str:
    """What can be asked about images of a split that is too small for the design: with fewer images a class, or by folds.

    Args:
        records: all images of the manifest.
        split: the split.
        folds: of the cross-fitting that is tried.
        design: how questions were to be drawn.
    """
    own = [record for record in records if record.split == split]
    said = []
    usual = design.get("min_images") or _USUAL
    for fewer in range(usual - 1, 0, -1):
        if found := _questions(own, {**design, "min_images": fewer}):
            said.append(
                f"--min-images {fewer} gives {found} (a class needs {fewer} images, not {usual}{'; noisy' if fewer < 3 else ''})"
            )
            break
    if found := _questions(records, design):
        said.append(
            f"--cross-fit {folds} asks about all {len(records)} images in turn, by models that learned from others: {found}"
        )
    return (
        "; ".join(said) or "there are too few images, or classes, for four options in all splits together: add images"
    )


def cross_fit(
    manifest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    folds: int,
    check: OverlapCheck | None = None,
    train_count: int | None = None,
    contradictory: Literal["drop", "keep"] = "drop",
    **design: Unpack[Design],
) -> tuple[list[Case], tuple[Fold, ...]]:
    """Questions about all images of a manifest, parted into folds of patients, and for each what may be learned from the others.

    The questions are drawn once over all images (`test.jsonl`), so that they are as fair as those of a single split; each fold has
    its share of them. Every class is spread over the folds as evenly as patients allow.

    Args:
        manifest: the manifest; its own splits are not used.
        out: folder of `test.jsonl`, its data card, and a folder for each fold.
        folds: number of folds, at least two.
        check: photographs that stand in two folds under two patients are refused, as for splits.
        train_count: number of training questions of each fold; default one for every image and class of it.
        contradictory: as of `build_cases`.
        design: as of `benchmark.options.draw`; `count` and `seed` are those of the questions. Without a count there are as many
            as ask about every image that can be asked, some more than once.

    Raises:
        OverlapError: if a photograph stands in two folds and the check's rule is `refuse`.
        ValueError: for fewer than two folds, fewer patients than folds, the rule `drop`, or images that allow no questions.
    """
    out, check, seed = Path(out), check or OverlapCheck(), design.get("seed", 0)
    records = read_manifest(manifest)
    patients = len({record.patient for record in records})
    if not 2 <= folds <= patients:
        raise ValueError(f"--cross-fit {folds}: expected 2 to {patients}, the number of patients")
    if check.rule == "drop":
        raise ValueError(
            "--overlap drop would leave images out of every fold: merge the patients instead"
            f" (python -m mgll.manifest group {manifest} --out NEW)"
        )
    if (out / f"fold-{folds}").exists():
        raise ValueError(
            f"{out} holds more than {folds} folds, of another cross-fitting; choose another --out, or remove them"
        )
    to_ask, to_learn = design.copy(), design.copy()
    to_ask["count"] = design.get("count") or _enough(records, contradictory, design)
    to_learn["count"] = train_count
    cases, _ = build_cases(manifest, out / "test.jsonl", None, check, contradictory, **to_ask)
    header = {key: value for key, value in read_header(out / "test.jsonl", "mgll.cases/1").items() if key != "schema"}
    fold_of = dict(zip((record.image for record in records), _folds(records, folds, seed), strict=True))
    asked = {os.path.realpath(case.image) for case in cases}
    made = []
    for number in range(folds):
        folder = out / f"fold-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        parted = [
            stored_under(record, folder.absolute()).model_copy(
                update={"split": "test" if fold_of[record.image] == number else "train"}
            )
            for record in records
        ]
        write_manifest(folder / "manifest.jsonl", parted, made_from=str(manifest), fold=number, folds=folds)
        own = read_manifest(folder / "manifest.jsonl", "test")
        mine = [record for record in own if os.path.realpath(record.image) in asked]
        compared = check.compare(folder / "manifest.jsonl", "test", mine)
        if check.rule == "refuse" and any(one.found for one in compared):
            raise OverlapError(compared, len(mine), manifest)
        try:
            training, _ = build_cases(
                folder / "manifest.jsonl", folder / "train.jsonl", "train", None, contradictory, **to_learn
            )
        except TooFewImagesError as error:
            raise ValueError(
                f"training questions of fold {number}: {error}; take more folds, or lower min_images"
            ) from None
        held = [case for case in cases if fold_of[case.image] == number]
        write_cases(folder / "test.jsonl", held, **{**header, "count": len(held), "fold": number, "folds": folds})
        made.append(Fold(folder, len(own), len(training), len(held)))
    return cases, tuple(made)


def _folds(records: Sequence[Record], folds: int, seed: int) -> list[int]:
    """The fold of every image: patients stay whole, and classes are spread evenly by the rarest of each image."""
    # here, because scikit-learn takes a moment to import
    from sklearn.model_selection import StratifiedGroupKFold

    counts = class_counts([record.labels for record in records], records[0].table)
    rarest = [
        min(member_codes(record.labels, record.table), key=lambda code: (counts[code], code), default="")
        for record in records
    ]
    groups = np.unique(["/".join(record.patient) for record in records], return_inverse=True)[1]
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    found = np.zeros(len(records), dtype=int)
    with warnings.catch_warnings():  # a class of fewer images than folds is in some of them only, which the counts say
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, places) in enumerate(splitter.split(np.zeros(len(records)), rarest, groups)):
            found[places] = number
    return [int(number) for number in found]


def _enough(records: Sequence[Record], contradictory: str, design: Design) -> int | None:
    """The smallest number of questions by which most images are asked about, of those tried; None where none can be drawn."""
    used = [record for record in records if contradictory == "keep" or not contradictions_of(record)]
    once = sum(class_counts([record.labels for record in used], records[0].table).values())
    asked = {}
    for times in _TIMES:
        try:
            drawn = _drawn(used, {**design, "count": round(times * once)})
        except ValueError:
            return None  # whoever builds them says why
        asked[round(times * once)] = len({question.image for question in drawn.questions})
        if asked[round(times * once)] == len(used):
            break
    return max(asked, key=lambda count: (asked[count], -count))


def _drawn(records: Sequence[Record], design: Design) -> Drawing:
    return draw([r.labels for r in records], sources=[r.source for r in records], table=records[0].table, **design)


def _questions(records: Sequence[Record], design: Design) -> str:
    """How many questions about how many classes a design draws; nothing where it draws none."""
    if not records:
        return ""
    try:
        drawn = _drawn(records, design)
    except ValueError:
        return ""
    classes = Counter(question.codes[question.answer] for question in drawn.questions)
    return f"{len(drawn.questions)} questions about {len(classes)} classes"
