"""Does the MGLL tower make the model a better diagnostician than the CLIP tower, and by how much?

    python recipes/compare_towers.py --config recipes/configs/compare_fundus.yaml --manifest fundus.jsonl

For every seed: a CLIP and an MGLL tower are pretrained on the same images and words with the same budget. A LLaVA host is built on
the CLIP tower; the MGLL tower, a randomly initialised one (the positive control) and the CLIP tower itself go into it through the
same graft. All are fine-tuned alike and scored on the same questions. Ends with summary.md and report/report.html over all seeds:
what they claim takes seeds and patients as random. What is finished is not done again, unless what it was made of has changed.

Research use only, not for diagnosis.
"""

import sys
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import combinations
from pathlib import Path
from typing import Literal

from benchmark.cases.case import read_cases
from benchmark.cases.images import Shown
from benchmark.cases.overlap import OverlapCheck, Rule
from benchmark.cases.training import training_questions
from benchmark.predictions.batches import Asking
from benchmark.predictions.file import Run, read_run
from benchmark.run_mcq import run
from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mgll.files import write_text
from mgll.formats import check_there
from mgll.linear_probe import macro_auc, probe_tower
from mgll.manifest.image_identity import data_identity
from mgll.manifest.records import Split, read_manifest
from mgll.progress import overall
from mgll.run_folder import locked
from mgll.settings import ObjectiveName, PretrainSettings
from mgll.stage import stage
from mgll.tower.config import CLIP as CLIP_KIND
from mgll.tower.file import read_header
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.contract.token_policy import TokenPolicy
from mllm_adapters.demo.settings import DemoHostSettings
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load, shard_hashes
from mllm_adapters.settings import FinetuneSettings

Arm = Literal["random", "clip", "mgll"]
RANDOM: Arm = "random"
CLIP: Arm = "clip"
MGLL: Arm = "mgll"
BLIND, HIDDEN = "blind", "source"
#: Looked at once: many stages are made of it, and there may be hundreds of thousands of images.
_data = cache(data_identity)


@dataclass(frozen=True)
class CompareSettings:
    """A comparison of towers trained with several objectives.

    Attributes:
        manifest: images with the splits `train` and `test`.
        out: folder of everything.
        seeds: of pretraining, training questions and fine-tuning.
        arms: the towers to compare; the last is reported against the one before it. With `[clip]` alone and several seeds, the runs
            are a null: `recipes/null_study.py` counts how often two halves of them seem to differ.
        mgll: objective of the tower that is grafted.
        train_questions: number of fine-tuning questions; default one for every image and class of it.
        test_questions: number of cases; default the same.
        overlap: what becomes of test images that stand in `train` under another name: `refuse` to run, `drop` or `keep` them.
        pretrain: settings of both towers, but for objective, seed, manifest and folder.
        finetune: settings of all fine-tunings, but for the seed.
        tokens: token policy of the grafts. With patch tokens a trained connector learns as much of a random tower as of a
            trained one; the pooled feature is the tower's own.
        host: how the demo host reads its tower.
    """

    manifest: str
    out: str
    seeds: tuple[int, ...] = (0,)
    arms: tuple[Arm, ...] = (RANDOM, CLIP, MGLL)
    mgll: ObjectiveName = "mgll"
    train_questions: int | None = None
    test_questions: int | None = None
    overlap: Rule = "refuse"
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    tokens: TokenPolicy = "pooled"
    host: DemoHostSettings = field(default_factory=DemoHostSettings)


@ends_in_one_line
def main() -> None:
    """Parse the settings and run."""
    settings = parse_settings(CompareSettings, __doc__ or "")
    check_there(settings.manifest, settings.pretrain.start_weights)
    with locked(settings.out):
        compare(settings)


def compare(settings: CompareSettings) -> Path:
    """Run the comparison; returns the path of summary.md."""
    out = Path(settings.out)
    cases = _questions(settings, "test", out / "test.jsonl")
    probes: dict[Arm, list[str]] = {name: [] for name in settings.arms}
    last = settings.arms[-1]
    say = overall(1 + len(settings.seeds) * (3 + len(settings.arms)))
    for seed in settings.seeds:
        folder = out / f"seed-{seed}"
        learned = _questions(settings, "train", folder / "train.jsonl", seed)
        say(f"seed {seed}: towers")
        towers = _towers(settings, folder, seed)
        say(f"seed {seed}: what the towers are worth alone")
        for name, tower in towers.items():
            probes[name].append(_probe(settings, tower, folder / f"{name}-probe.txt"))
        towers = _standardised(settings, folder, towers)
        for name, model in _grafts(settings, folder, towers).items():
            say(f"seed {seed}: the model with the {name} tower")
            tuned = _finetune(settings, model, learned, folder / f"{name}-tuned", seed)
            _score(tuned, cases, folder / f"{name}-scores", name)
        say(f"seed {seed}: the same with the finding hidden")
        _score(folder / f"{last}-tuned", cases, folder / f"{last}-{BLIND}", last, shown="blank")
        _score(folder / f"{last}-tuned", cases, folder / f"{last}-{HIDDEN}", last, shown="source")
    say("report")
    report = _report(settings, cases)
    summary = _summary(settings, cases, probes)
    write_text(out / "summary.md", summary)
    print(f"\n{summary}\nsummary: {out / 'summary.md'}\nreport:  {report}")
    return out / "summary.md"


def _report(settings: CompareSettings, cases: Path) -> Path:
    """The report of the last arm, over all seeds, against the arm before it; its path."""
    # here, because torch takes seconds to import
    from benchmark.report.writing import report_runs

    out, last = Path(settings.out), settings.arms[-1]
    before = _runs(settings, settings.arms[-2]) if len(settings.arms) > 1 else None
    first = out / f"seed-{settings.seeds[0]}"
    report_runs(
        out / "report",
        cases,
        _runs(settings, last),
        before,
        first / f"{last}-{BLIND}",
        source=first / f"{last}-{HIDDEN}",
        training=first / "train.jsonl",
    )
    return out / "report" / "report.html"


def _runs(settings: CompareSettings, arm: Arm) -> list[Path]:
    return [Path(settings.out) / f"seed-{seed}" / f"{arm}-scores" for seed in settings.seeds]


def _summary(settings: CompareSettings, cases: Path, probes: dict[Arm, list[str]]) -> str:
    """Every pair of arms with each seed's numbers, the floors, and the probes."""
    # here, because torch takes seconds to import
    from benchmark.report.content import build_report
    from benchmark.report.markdown import table_lines
    from benchmark.report.side_tables import control_table, seed_table
    from benchmark.report.wording import answer, verdict

    asked, learned = read_cases(cases), read_cases(Path(settings.out) / f"seed-{settings.seeds[0]}" / "train.jsonl")
    runs = {arm: [read_run(path) for path in _runs(settings, arm)] for arm in settings.arms}
    lines: list[str] = []
    for before, after in combinations(settings.arms, 2):
        report = build_report(asked, runs[after], runs[before], training=learned)
        lines += [f"## {after} against {before}", "", "".join(answer(report)), "", verdict(report), ""]
        lines += [*table_lines(seed_table(report)), ""]
    last = settings.arms[-1]
    hidden: dict[str, list[Run]] = {
        shown: [read_run(Path(settings.out) / f"seed-{seed}" / f"{last}-{shown}") for seed in settings.seeds]
        for shown in (BLIND, HIDDEN)
    }
    report = build_report(asked, runs[last], blind=hidden[BLIND][0], source=hidden[HIDDEN][0], training=learned)
    lines += [f"## {last} without the images", "", *table_lines(control_table(report)), ""]
    reading = _text_only(Path(settings.out) / f"seed-{settings.seeds[0]}" / "host")
    lines += [
        f"Chance is 25 %; the decoder reads {reading:.1%} of the questions whose finding is given in words.",
        "",
        "Linear probe, macro AUC on the test split (in brackets: classes with 20 images or more), a seed each:",
        "",
        *(f"- {name}: {', '.join(found)}" for name, found in probes.items()),
        "",
        "Research use only, not for diagnosis.",
        "",
    ]
    return "\n".join(lines)


def _questions(settings: CompareSettings, split: Split, path: Path, seed: int = 0) -> Path:
    """Balanced questions of a split, drawn within sources: no strategy that ignores the image beats 25 %."""
    # here, because scipy takes a moment to import
    from benchmark.cases.building import build_cases

    count = settings.train_questions if split == "train" else settings.test_questions
    check = OverlapCheck(rule=settings.overlap)
    return stage(
        path,
        {**_data(settings.manifest), "split": split, "count": count, "seed": seed, "overlap": settings.overlap},
        lambda: build_cases(settings.manifest, path, split, check, count=count, seed=seed),
    )


def _towers(settings: CompareSettings, folder: Path, seed: int) -> dict[Arm, Path]:
    """The towers of all arms, of the same architecture."""
    from mgll.training.identity import made_of
    from mllm_adapters.demo.host import save_random_tower

    towers: dict[Arm, Path] = {}
    shared = settings.pretrain
    if RANDOM in settings.arms:
        towers[RANDOM] = folder / "random-tower.ckpt"
        save_random_tower(
            towers[RANDOM], seed, shared.encoder, shared.preprocessing, shared.pooling, shared.encoder_options
        )
    objectives: dict[Arm, ObjectiveName] = {CLIP: "clip", MGLL: settings.mgll}
    for name, objective in objectives.items():
        if name not in settings.arms:
            continue
        run = replace(
            settings.pretrain,
            objective=objective,
            seed=seed,
            manifest=settings.manifest,
            out=str(folder / f"{name}-tower"),
        )
        made = {**made_of(run), **_data(settings.manifest)}
        towers[name] = stage(Path(run.out), made, partial(_pretrain, run)) / "mgll.ckpt"
    return towers


def _pretrain(run: PretrainSettings) -> None:
    from mgll.training.pretraining import pretrain

    pretrain(run)


def _standardised(settings: CompareSettings, folder: Path, towers: dict[Arm, Path]) -> dict[Arm, Path]:
    """The towers, rewritten with image features of mean 0 and variance 1, so that no connector starts at a disadvantage."""
    from mgll.tower.standardise import standardise_tower

    images = [record.image for record in read_manifest(settings.manifest, "train")][:1000]
    written = {name: folder / f"{name}-standardised.ckpt" for name in towers}
    for name, tower in towers.items():
        make = partial(standardise_tower, tower, images, written[name])
        stage(written[name], {"tower": tower, **_data(settings.manifest)}, make)
    return written


def _probe(settings: CompareSettings, tower: Path, out: Path) -> str:
    def probe() -> None:
        results = probe_tower(tower, settings.manifest)
        write_text(out, f"{macro_auc(results):.3f} ({macro_auc(results, 20):.3f})")

    return stage(out, {"tower": tower, **_data(settings.manifest)}, probe).read_text(encoding="utf-8")


def _grafts(settings: CompareSettings, folder: Path, towers: dict[Arm, Path]) -> dict[Arm, Path]:
    """The host on the first tower, by preference CLIP's, and its grafts with every tower."""
    from mllm_adapters.demo.host import build_demo_host, save_random_tower

    own = towers.get(CLIP) or next(iter(towers.values()))
    if read_header(own).kind != CLIP_KIND:  # the demo host holds no other; all three arms are grafts anyway
        save_random_tower(own := folder / "host-tower.ckpt")
    host = build_demo_host(own, folder / "host", settings.host)
    models = {name: folder / f"{name}-graft" for name in settings.arms}
    for name, model in models.items():
        graft_tower(get_host("llava"), host, towers[name], model, GraftSettings(tokens=settings.tokens))
    return models


def _finetune(settings: CompareSettings, model: Path, questions: Path, out: Path, seed: int) -> Path:
    from mllm_adapters.finetuning.finetune import finetune

    own = replace(settings.finetune, seed=seed)
    made = {"model": shard_hashes(model), "questions": questions, "settings": own, **_data(settings.manifest)}
    return stage(out, made, lambda: finetune(model, training_questions(questions), out, own))


def _score(model: Path, cases: Path, out: Path, name: str, shown: Shown = "own") -> None:
    run(str(model), cases, out, asking=Asking(images=shown, batch_size=32), name=name)


def _text_only(host: Path) -> float:
    from mllm_adapters.demo.reading import text_only_accuracy

    loaded = load(host)
    return text_only_accuracy(loaded.model, loaded.processor)


if __name__ == "__main__":
    sys.exit(main())
