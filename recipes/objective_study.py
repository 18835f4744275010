"""Which objective makes the better tower? Arms x seeds x what pretraining gets to see, with an answer that replicates.

    python recipes/objective_study.py --config recipes/configs/objective_study.yaml --manifest fundus.jsonl

Every arm starts from the same weights. A run is pretrained and read: on validation and test, by linear probe, with few labels, on
multi-label images and rare classes alone, zero-shot by class names; where pretraining saw some sources alone, on their test images,
and on all images of the others.
Runs that are finished are not done again, unless what they were made of has changed; an interrupted one goes on. `summary.md` has
every run's number and, for every pair of arms, the difference with its interval, taking seeds and patients as random, and the power
to have seen one of two points.

Research use only, not for diagnosis.
"""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from math import nan
from pathlib import Path
from typing import Any, Literal

from benchmark.report.arms import ABOUT, Readings, arms_rows, arms_tables
from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mgll.evaluation.comparing import Side, mean_of, side_of
from mgll.evaluation.evaluation import ZERO_SHOT, Evaluation, evaluate
from mgll.evaluation.linear_readings import FEW, NothingToReadError
from mgll.evaluation.reading import Reading
from mgll.evaluation.saving import load_evaluation, save_evaluation
from mgll.evaluation.settings import EvaluationSettings
from mgll.evaluation.towers import tower_file
from mgll.files import write_text
from mgll.formats import check_there
from mgll.manifest.image_identity import data_identity
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.progress import overall
from mgll.run_folder import locked
from mgll.settings import ObjectiveName, PretrainSettings
from mgll.stage import stage

START, VALIDATION, MULTI_LABEL = "frozen", "val", "multi-label images"
#: The test images of the sources that pretraining saw, where it saw some sources alone.
SEEN = "seen sources"
READ = ".evaluation.npz"
#: Looked at once: many stages are made of it, and there may be hundreds of thousands of images.
_data = cache(data_identity)


@dataclass(frozen=True)
class Arm:
    """One way of pretraining.

    Attributes:
        objective: its objective; None reads the start weights as they are.
        changes: settings of pretraining in which it differs from the others, such as its learning rate.
        seeds: the runs; None takes those of the study.
    """

    objective: ObjectiveName | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Condition:
    """What pretraining gets to see.

    Attributes:
        sources: it sees the training images of these sources alone, and their test images are read apart from all images of the
            others; None sees the training images of all.
        wrong_texts: see `PretrainSettings`.
        missing_texts: see `PretrainSettings`.
        arms: the arms that are run under it; None runs all.
        seeds: the runs of each arm; None takes the arm's.
    """

    sources: tuple[str, ...] | None = None
    wrong_texts: float = 0.0
    missing_texts: float = 0.0
    arms: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class StudySettings:
    """A study of objectives.

    Attributes:
        manifest: images with the splits `train`, `val` and `test`.
        out: folder of everything.
        arms: name -> arm.
        conditions: name -> condition.
        seeds: of weights, order, augmentation and drawn texts.
        pretrain: settings of all runs, but for what an arm, a condition or a seed decides.
        min_train: training images that a class must have, and lack.
        min_read: images that a class must have, and lack, among those that are read.
        shares: shares of the training patients whose labels the few-label probes get.
        precision: of the features that are read (`mgll.evaluation.features_of`).
        text_encoder: folder of the text encoder, where it is not the embedded one.
        only: run these arms alone; the summary has all that are there.
    """

    manifest: str
    out: str = "runs/objective_study"
    arms: Mapping[str, Arm] = field(default_factory=lambda: {START: Arm(), "clip": Arm("clip"), "mgll": Arm("mgll")})
    conditions: Mapping[str, Condition] = field(default_factory=lambda: {"all": Condition()})
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    min_train: int = 30
    min_read: int = 10
    shares: tuple[float, ...] = (0.01, 0.05, 0.1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    text_encoder: str | None = None
    only: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Run:
    """One cell of the study."""

    condition: str
    arm: str
    seed: int

    def folder(self, settings: StudySettings) -> Path:
        """Where its tower and readings are."""
        return Path(settings.out) / self.condition / f"{self.arm}-{self.seed}"


@ends_in_one_line
def main() -> None:
    """Parse the settings and run what is not done yet."""
    settings = parse_settings(StudySettings, __doc__ or "")
    check_there(settings.manifest, settings.pretrain.start_weights)
    with locked(settings.out):
        study(settings)


def study(settings: StudySettings) -> Path:
    """Run every cell that is not done yet, and write the summary after each; returns its path."""
    runs = [run for run in _runs(settings) if settings.only is None or run.arm in settings.only]
    say = overall(len(runs))
    for run in runs:
        say(f"{run.condition}, {run.arm}, seed {run.seed}")
        _read(settings, run, _tower(settings, run))
        _summarise(settings)
    print((Path(settings.out) / "summary.md").read_text(encoding="utf-8"))
    return Path(settings.out) / "summary.md"


def _runs(settings: StudySettings) -> Iterator[Run]:
    """All cells, seed by seed, so that a study that is cut short has some of each arm."""
    for name, condition in settings.conditions.items():
        arms = {arm: settings.arms[arm] for arm in condition.arms or settings.arms}
        seeds = {arm: condition.seeds or own.seeds or settings.seeds for arm, own in arms.items()}
        for index in range(max(map(len, seeds.values()))):
            for arm, own in arms.items():
                if index < (len(seeds[arm]) if own.objective else 1):  # nothing of the start weights is drawn
                    yield Run(name, arm, seeds[arm][index])


def _records(settings: StudySettings, condition: Condition) -> list[Record]:
    """The images that pretraining and the choice of settings may see, and those of all sources that are read."""
    records = read_manifest(settings.manifest)
    seen = condition.sources
    if seen is None:
        return list(records)
    if missing := sorted(set(seen) - {str(record.source) for record in records}):
        raise ValueError(f"{settings.manifest} has no source {', '.join(missing)}")
    unseen = [record.model_copy(update={"split": "test"}) for record in records if record.source not in seen]
    return [record for record in records if record.source in seen and record.split != "test"] + unseen


def _unread(settings: StudySettings, condition: Condition) -> list[Record]:
    """The test images of the sources that pretraining sees."""
    seen = condition.sources or ()
    return [record for record in read_manifest(settings.manifest) if record.source in seen and record.split == "test"]


def _tower(settings: StudySettings, run: Run) -> Path:
    """The tower of a run: the start weights as they are, or pretrained."""
    # here, because torch takes seconds to import
    from mgll.training.identity import made_of
    from mgll.training.pretraining import pretrain, save_start_tower

    arm, condition, folder = settings.arms[run.arm], settings.conditions[run.condition], run.folder(settings)
    manifest = folder / "manifest.jsonl"
    write_manifest(manifest, _records(settings, condition))
    own = replace(
        settings.pretrain,
        **arm.changes,
        manifest=str(manifest),
        out=str(folder / "pretraining"),
        seed=run.seed,
        wrong_texts=condition.wrong_texts,
        missing_texts=condition.missing_texts,
    )
    own = own if arm.objective is None else replace(own, objective=arm.objective)
    tower = folder / "mgll.ckpt"

    def make() -> None:
        if arm.objective is None:
            save_start_tower(own, tower)
            return
        if not tower.is_file():  # it is there, and whole, where a start was killed while it tidied up
            pretrain(own).rename(tower)
        shutil.rmtree(own.out, ignore_errors=True)  # what it could be resumed from

    frozen = {"arm": asdict(arm)} if arm.objective is None else {}
    return stage(tower, {**made_of(own), **_data(settings.manifest), **frozen}, make)


def _read(settings: StudySettings, run: Run, tower: Path) -> None:
    """Read a tower on validation and on the images of the test, each source apart that pretraining did not see."""
    condition = settings.conditions[run.condition]
    shared = EvaluationSettings(
        cache=str(run.folder(settings) / "features"),
        min_train=settings.min_train,
        min_read=settings.min_read,
        leave_source_out=False,
        precision=settings.precision,
        text_encoder=settings.text_encoder,
    )
    records = _records(settings, condition)
    unseen = sorted({str(record.source) for record in records if record.split == "test"}) if condition.sources else []
    for part in (VALIDATION, *([SEEN, *unseen] if unseen else ["test"])):
        split: Literal["val", "test"] = "val" if part == VALIDATION else "test"
        kept = [r for r in records if r.split != "test" or not unseen or r.source == part]
        if part == SEEN:
            kept += _unread(settings, condition)
        few = () if part == VALIDATION or unseen else settings.shares
        own = replace(shared, split=split, shares=few)
        path = run.folder(settings) / f"{part}{READ}"
        made = {"tower": tower, "settings": own.identity(), **_data(settings.manifest)}

        def make(path: Path = path, kept: list[Record] = kept, own: EvaluationSettings = own) -> None:
            subject = tower_file(tower)
            try:
                found = evaluate(subject, kept, own)
            except NothingToReadError as error:
                print(f"{path}: {error}")
                found = Evaluation(subject.name, subject.digest, {}, {}, nan, (str(error),))
            save_evaluation(path, found)

        stage(path, made, make)


def _summarise(settings: StudySettings) -> None:
    """Write summary.md and summary.csv over all runs that are there."""
    runs = [run for run in _runs(settings) if (run.folder(settings) / f"{VALIDATION}{READ}").is_file()]
    lines, rows = ["# Objectives", "", ABOUT, ""], ["condition,reading,arm,seed,macro AUC"]
    for condition in settings.conditions:
        done = [run for run in runs if run.condition == condition]
        readings = _sides(settings, done)
        arms = list(dict.fromkeys(run.arm for run in done))
        lines += [f"## {condition}", "", *arms_tables(readings, arms, [START]), ""]
        rows += [f'"{condition}",{row}' for row in arms_rows(readings)]
    lines += ["Research use only, not for diagnosis.", ""]
    write_text(Path(settings.out) / "summary.md", "\n".join(lines))
    write_text(Path(settings.out) / "summary.csv", "\n".join([*rows, ""]))


def _sides(settings: StudySettings, runs: Sequence[Run]) -> Readings:
    """Reading -> arm -> its runs and their numbers. Draws of few labels are averaged, and sources that were not seen."""
    found: dict[str, dict[str, tuple[Sequence[int], Side]]] = {}
    for arm in dict.fromkeys(run.arm for run in runs):
        own = [run for run in runs if run.arm == arm]
        # what a newer release reads besides is there for the runs that it has come to
        parts = set.intersection(
            *({path.name.removesuffix(READ) for path in run.folder(settings).glob(f"*{READ}")} for run in own)
        )
        read = {part: [_readings(settings, run, part) for run in own] for part in sorted(parts)}
        sides = {
            (part, name): side_of([readings[name] for readings in several])
            for part, several in read.items()
            for name in several[0]
            if all(name in readings for readings in several)
        }
        groups: dict[str, list[Side]] = {}
        for (part, name), side in sides.items():
            where = part if part in (VALIDATION, SEEN) else "test"
            groups.setdefault(f"{where}, {name.partition(', draw')[0]}", []).append(side)
            if part not in (VALIDATION, SEEN, "test"):
                groups[f"{part} unseen, {name}"] = [side]
        for name, several in groups.items():
            found.setdefault(name, {})[arm] = ([run.seed for run in own], _mean(name, several))
    return found


def _readings(settings: StudySettings, run: Run, part: str) -> dict[str, Reading]:
    """All readings of a part of the images; those by class names also on the images with several classes alone."""
    found = dict(load_evaluation(run.folder(settings) / f"{part}{READ}").readings)
    for name, reading in list(found.items()):
        if name.startswith(ZERO_SHOT):
            several = reading.among(f"{name}, {MULTI_LABEL}", reading.truth.sum(axis=1) > 1, least=settings.min_read)
            found |= {several.name: several} if several else {}
    return found


def _mean(name: str, sides: Sequence[Side]) -> Side:
    """The mean of some numbers: of the same patients where only the labels that were learned from differ, else of others."""
    if FEW in name:
        values, influence = ([getattr(side, what) for side in sides] for what in ("values", "influence"))
        return Side(sum(values) / len(sides), sum(influence) / len(sides))
    return mean_of(sides)


if __name__ == "__main__":
    sys.exit(main())
