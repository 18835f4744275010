"""Make the questions of one experiment from a manifest: training questions, and cases of the validation and test splits.

    python recipes/build_benchmark.py --manifest fundus.jsonl --out benchmark_data/fundus
    python recipes/build_benchmark.py --manifest fundus.jsonl --out benchmark_data/paper --options paper --table14 true
    python recipes/build_benchmark.py --manifest clinic.jsonl --out benchmark_data/clinic --cross_fit 5

A split that is too small for questions is said, with what is possible, and the others are built. `--cross_fit` asks about every
image of a small set: a folder for each fold of patients, whose model learns from the other folds (docs/benchmark.md).

Fine-tuning questions are drawn like the questions they prepare for. Research use only, not for diagnosis.
"""

import json
import math
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from benchmark.cases.case import Case, describe
from benchmark.cases.giveaways import giveaway_warning
from benchmark.cases.overlap import OverlapCheck, Rule
from mgll.bounds import Bounds
from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mgll.files import sha256, write_text
from mgll.manifest.records import read_manifest
from mgll.provenance import provenance


@dataclass(frozen=True)
class BenchmarkSettings:
    """The questions of one experiment, split by split.

    Attributes:
        manifest: manifest with the splits `train` and `test` (and `val` if it has one).
        out: folder for `train.jsonl`, `val.jsonl`, `test.jsonl` and `settings.json`.
        options: `balanced` (no strategy without the image beats 25 %) or `paper` (uniform distractors).
        train_count: number of training questions; default one for every image and class of it.
        test_count: number of cases of each of the other splits; default the same.
        classes: class codes, or `present`, or `table14`; default `present` for balanced options, `table14` for the paper's.
        min_images: leave out classes with fewer images in a split; default 5 for balanced options, 1 for the paper's.
        equal_shares: balanced options in which every class is offered equally often.
        any_source: balanced options drawn over all sources at once; recognising a source then pays.
        distractors: `clean` (none holds or may hold for the image) or `paper` (any other name, as printed; paper options only).
        names: distractors of paper options come from the `classes` or from `all` names of the disease table.
        table14: test cases in exactly Table 14's counts, or its proportions with a smaller `test_count`; paper options only.
        allow_short: build what there is where `table14` lacks images.
        seed: of all draws.
        pretraining: manifests and towers whose training images must not be asked about, beside the manifest's own split `train`.
        overlap: what becomes of images of `val` and `test` that were trained on: `refuse` to build, `drop` them, or `keep` them and
            count them on the data card.
        contradictory: images whose labels contradict each other (Health beside a disease): `drop` and count them, or `keep` them.
        cross_fit: number of folds of patients, each asked about in turn; 0 takes the splits of the manifest.
    """

    manifest: str
    out: str
    options: Literal["balanced", "paper"] = "balanced"
    train_count: int | None = None
    test_count: int | None = None
    classes: list[str] | Literal["present", "table14"] | None = None
    min_images: int | None = None
    equal_shares: bool = False
    any_source: bool = False
    distractors: Literal["clean", "paper"] = "clean"
    names: Literal["classes", "all"] = "classes"
    table14: bool = False
    allow_short: bool = False
    seed: int = 0
    pretraining: list[str] = field(default_factory=list)
    overlap: Rule = "refuse"
    contradictory: Literal["drop", "keep"] = "drop"
    cross_fit: int = 0

    bounds: ClassVar[Bounds] = {
        "train_count": (1, math.inf),
        "test_count": (1, math.inf),
        "min_images": (1, math.inf),
        "cross_fit": (0, math.inf),
    }


@ends_in_one_line
def main() -> None:
    """Build the files split by split and say what each holds."""
    settings = parse_settings(BenchmarkSettings, __doc__ or "")
    # here, because scipy takes a moment to import
    from benchmark.cases.building import build_cases
    from benchmark.cases.floor import describe_floors
    from benchmark.cases.small_sets import cross_fit, what_is_possible
    from benchmark.options.draw import Design, TooFewImagesError

    out = Path(settings.out)
    check = OverlapCheck(settings.pretraining, settings.overlap)
    records = read_manifest(settings.manifest)
    design = Design(
        kind=settings.options,
        classes=settings.classes,
        min_images=settings.min_images,
        clean=settings.distractors == "clean",
        names=settings.names,
        equal=settings.equal_shares,
        any_source=settings.any_source,
        allow_short=settings.allow_short,
        seed=settings.seed,
    )
    too_small: dict[str, str] = {}

    def tell(path: Path, cases: list[Case], left_out: str, learned: list[Case] | None = None) -> None:
        print(f"\n{path}: {describe(cases)}\n{left_out}")
        print(describe_floors(cases, learned))
        if warning := giveaway_warning(cases):
            print(warning)

    if settings.cross_fit:
        whole = Design(**design, count=settings.test_count)
        cases, folds = cross_fit(
            settings.manifest, out, settings.cross_fit, check, settings.train_count, settings.contradictory, **whole
        )
        tell(out / "test.jsonl", cases, "")
        for fold in folds:
            print(
                f"{fold.folder}: {fold.images} images, {fold.cases} cases, {fold.training} training questions of other patients"
            )
    else:
        learned: list[Case] | None = None
        for split in sorted({record.split for record in records}, key=["train", "val", "test"].index):
            drawn = Design(
                **design,
                count=settings.train_count if split == "train" else settings.test_count,
                table14=settings.table14 and split == "test",
            )
            path = out / f"{split}.jsonl"
            try:
                cases, drawing = build_cases(settings.manifest, path, split, check, settings.contradictory, **drawn)
            except TooFewImagesError as error:
                too_small[split] = f"{error}. Possible: {what_is_possible(records, split, **drawn)}"
                print(f"\n{path}: not built: {too_small[split]}")
                path.unlink(missing_ok=True)  # an earlier one would pass for this manifest's
                continue
            tell(path, cases, drawing.describe(), learned)
            learned = cases if split == "train" else learned
    made = {"settings": asdict(settings), "manifest_sha256": sha256(settings.manifest), "made_with": provenance()}
    write_text(out / "settings.json", json.dumps(made, indent=2) + "\n")
    if missing := [split for split in ("train", "test") if split in too_small]:
        raise ValueError(f"no questions of split {' and '.join(missing)}: {too_small[missing[-1]]}")


if __name__ == "__main__":
    sys.exit(main())
