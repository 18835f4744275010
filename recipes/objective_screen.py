r"""Which objectives are worth a night? Each is tried on a frozen tower in seconds, arms x seeds.

    python recipes/objective_screen.py --encoder hf:runs/real/dinov2-small --image-size 126 --manifest fundus.jsonl

The tower's features are computed once. For every arm and seed a small adapter is trained behind them with the arm's objective,
against the texts of the training images, and read on validation by linear probe and by class names alone. `summary.md` and
`summary.csv` have every run and, for every pair of arms, the difference with its interval. What looks better here is a candidate
for `recipes/objective_study.py`, which trains the whole tower. `--missing-texts` and `--wrong-texts` ask how each arm copes with
texts that are not there or belong to another image (the paper's Tables 8 and 37). Research use only, not for diagnosis.
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmark.report.arms import ABOUT, Readings, arms_rows, arms_tables
from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mgll.evaluation.comparing import side_of
from mgll.evaluation.evaluation import Evaluation
from mgll.evaluation.named_towers import NamedEncoders, find_tower
from mgll.evaluation.saving import load_evaluation, save_evaluation
from mgll.evaluation.settings import EvaluationSettings
from mgll.files import write_text
from mgll.formats import check_there
from mgll.manifest.image_identity import data_identity
from mgll.manifest.records import read_manifest
from mgll.progress import overall
from mgll.run_folder import locked
from mgll.settings import OBJECTIVES, ObjectiveSettings
from mgll.stage import stage

if TYPE_CHECKING:
    from mgll.evaluation.screening import ScreenSettings


def _arms() -> dict[str, ObjectiveSettings]:
    terms = {"sCLIP": (1.0, 0.0, 0.0), "P": (0.0, 1.0, 0.0), "sCLIP + P": (1.0, 0.1, 0.0), "sKL 0.1": (1.0, 0.1, 0.1)}
    named = {name: OBJECTIVES[name] for name in ("clip", "clip-single", "siglip", "supcon", "mgll-paper", "mgll")}
    return {**named, **{name: ObjectiveSettings(*weights) for name, weights in terms.items()}}


@dataclass(frozen=True)
class ScreenStudySettings:
    """A screen of objectives.

    Attributes:
        manifest: images with the splits `train` and `val`.
        encoder: the frozen tower: a tower file, or as `recipes/evaluate_tower.py` names towers.
        out: folder of everything.
        arms: name -> objective; by default those by name, and the terms of MGLL one by one.
        seeds: of weights, order and drawn texts.
        split: the images that are read. Choose by `val`; `test` is for what has been chosen.
        image_size: side in pixels for an encoder that brings no tower file.
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: AdamW's peak learning rate.
        only: run these arms alone.
        missing_texts: every arm is also run with each of these shares of the training images' levels taken away.
        wrong_texts: and with each of these shares given another image's texts.
        min_train: training images that a class must have, and lack.
        min_read: images that a class must have, and lack, among those that are read.
        precision: of the tower's features (`mgll.evaluation.features_of`).
    """

    manifest: str
    encoder: str
    out: str = "runs/objective_screen"
    arms: Mapping[str, ObjectiveSettings] = field(default_factory=_arms)
    seeds: tuple[int, ...] = (0, 1, 2)
    split: Literal["val", "test"] = "val"
    image_size: int | None = None
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 1e-3
    only: tuple[str, ...] | None = None
    missing_texts: tuple[float, ...] = ()
    wrong_texts: tuple[float, ...] = ()
    min_train: int = 30
    min_read: int = 5
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


@ends_in_one_line
def main() -> None:
    """Parse the settings and run what is not done yet."""
    settings = parse_settings(ScreenStudySettings, __doc__ or "")
    check_there(settings.manifest)
    with locked(settings.out):
        screen_objectives(settings)


def screen_objectives(settings: ScreenStudySettings) -> Path:
    """Run every arm and seed that is not done yet, and write the summary; returns its path."""
    # here, because torch takes seconds to import
    from mgll.encoders.text import TextEncoder
    from mgll.evaluation.screening import screen

    out, records = Path(settings.out), read_manifest(settings.manifest)
    kept = [record for record in records if record.split in ("train", "val", settings.split)]
    tower = find_tower(settings.encoder, out / "towers", NamedEncoders(settings.image_size))
    arms = _with_bad_texts(settings)
    reading = EvaluationSettings(
        cache=str(out / "features"),
        split=settings.split,
        min_train=settings.min_train,
        min_read=settings.min_read,
        shares=(),
        leave_source_out=False,
        precision=settings.precision,
    )
    encoder, data = TextEncoder(), data_identity(settings.manifest)
    say = overall(len(arms) * len(settings.seeds))
    found: dict[str, list[Evaluation]] = {arm: [] for arm in arms}
    for seed in settings.seeds:
        for arm, (objective, training) in arms.items():
            say(f"{arm}, seed {seed}")
            path = out / "runs" / f"{arm}-{seed}.{settings.split}.evaluation.npz"
            made_of = {"tower": tower.digest, "objective": asdict(objective), "training": asdict(training)}

            def make(path: Path = path, arm: str = arm, seed: int = seed) -> None:
                readings = screen(tower, kept, arms[arm][0], seed, arms[arm][1], reading, encoder)
                save_evaluation(path, Evaluation(tower.name, tower.digest, readings, {}, nan, ()))

            stage(path, {**made_of, "seed": seed, "read": reading.identity(), **data}, make)
            found[arm].append(load_evaluation(path))
    return _summarise(settings, found)


def _with_bad_texts(settings: ScreenStudySettings) -> "dict[str, tuple[ObjectiveSettings, ScreenSettings]]":
    """Every arm as it is, then with texts missing, then with wrong ones."""
    from mgll.evaluation.screening import ScreenSettings  # here, because torch takes seconds to import

    whole = ScreenSettings(settings.epochs, settings.batch_size, settings.learning_rate)
    texts = {"": whole}
    texts |= {f", {100 * share:g}% missing": replace(whole, missing_texts=share) for share in settings.missing_texts}
    texts |= {f", {100 * share:g}% wrong": replace(whole, wrong_texts=share) for share in settings.wrong_texts}
    if unknown := sorted(set(settings.only or ()) - set(settings.arms)):
        raise ValueError(f"only: there is no arm {', '.join(unknown)}; there are {', '.join(settings.arms)}")
    chosen = {arm: settings.arms[arm] for arm in settings.only or settings.arms}
    return {f"{arm}{said}": (own, training) for said, training in texts.items() for arm, own in chosen.items()}


def _summarise(settings: ScreenStudySettings, found: Mapping[str, list[Evaluation]]) -> Path:
    """Write summary.md and summary.csv; returns the path of the first."""
    names = list(dict.fromkeys(name for runs in found.values() for run in runs for name in run.readings))
    readings: Readings = {
        f"{settings.split}, {name}": {
            arm: (settings.seeds, side_of([run[name] for run in runs]))
            for arm, runs in found.items()
            if all(name in run.readings for run in runs)
        }
        for name in names
    }
    out = Path(settings.out)
    lines = [f"# Objectives on the frozen {settings.encoder}", "", ABOUT, "", *arms_tables(readings, list(found))]
    write_text(out / "summary.md", "\n".join([*lines, "", "Research use only, not for diagnosis.", ""]))
    write_text(out / "summary.csv", "\n".join(["reading,arm,seed,macro AUC", *arms_rows(readings), ""]))
    print((out / "summary.md").read_text(encoding="utf-8"))
    return out / "summary.md"


if __name__ == "__main__":
    sys.exit(main())
