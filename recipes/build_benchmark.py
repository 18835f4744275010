"""Make the questions of one experiment from a manifest: training questions, and cases of the validation and test splits.

    python recipes/build_benchmark.py --manifest fundus.jsonl --out benchmark_data/fundus
    python recipes/build_benchmark.py --manifest fundus.jsonl --out benchmark_data/paper --options paper --table14 true

Fine-tuning questions are drawn like the questions they prepare for. Research use only, not for diagnosis.
"""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from benchmark.cases.case import Case, describe
from benchmark.cases.giveaways import giveaway_warning
from benchmark.cases.overlap import OverlapCheck, Rule
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


@ends_in_one_line
def main() -> None:
    """Build the files split by split and say what each holds."""
    settings = parse_settings(BenchmarkSettings, __doc__ or "")
    # here, because scipy takes a moment to import
    from benchmark.cases.building import build_cases
    from benchmark.cases.floor import describe_floors

    out = Path(settings.out)
    check = OverlapCheck(settings.pretraining, settings.overlap)
    records = read_manifest(settings.manifest)
    learned: list[Case] | None = None
    for split in sorted({record.split for record in records}, key=["train", "val", "test"].index):
        cases, drawing = build_cases(
            settings.manifest,
            out / f"{split}.jsonl",
            split,
            check,
            settings.contradictory,
            kind=settings.options,
            count=settings.train_count if split == "train" else settings.test_count,
            classes=settings.classes,
            min_images=settings.min_images,
            clean=settings.distractors == "clean",
            names=settings.names,
            equal=settings.equal_shares,
            any_source=settings.any_source,
            table14=settings.table14 and split == "test",
            allow_short=settings.allow_short,
            seed=settings.seed,
        )
        print(f"\n{out / f'{split}.jsonl'}: {describe(cases)}\n{drawing.describe()}")
        learned = cases if split == "train" else learned
        print(describe_floors(cases, learned))
        if warning := giveaway_warning(cases):
            print(warning)
    made = {"settings": asdict(settings), "manifest_sha256": sha256(settings.manifest), "made_with": provenance()}
    write_text(out / "settings.json", json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
