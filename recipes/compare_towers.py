"""Does the MGLL tower make the model a better diagnostician than the CLIP tower, and by how much?

    python recipes/compare_towers.py --config recipes/configs/compare_fundus.yaml --manifest fundus.jsonl

For every seed: a CLIP and an MGLL tower are pretrained on the same images and words with the same budget. A LLaVA host is built on
the CLIP tower; the MGLL tower, a randomly initialised one (the positive control) and the CLIP tower itself go into it through the
same graft. All are fine-tuned alike and scored on the same questions. Ends with summary.md, and the first seed's report.html.
What is finished is not done again.

Research use only, not for diagnosis.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark.cases.overlap import OverlapCheck, Rule
from benchmark.cases.training import training_questions
from benchmark.predictions.file import read_run
from benchmark.predictions.scoring import Asking
from benchmark.run_mcq import run
from mgll.commandline import parse_settings
from mgll.files import write_text
from mgll.linear_probe import macro_auc, probe_tower
from mgll.manifest.records import read_manifest
from mgll.settings import ObjectiveName, PretrainSettings
from mgll.tower.config import CLIP as CLIP_KIND
from mgll.tower.file import read_header
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.contract.token_policy import TokenPolicy
from mllm_adapters.demo.settings import DemoHostSettings
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load
from mllm_adapters.settings import FinetuneSettings

RANDOM, CLIP, MGLL, BLIND = "random", "clip", "mgll", "mgll-blind"


@dataclass(frozen=True)
class CompareSettings:
    """A comparison of towers trained with several objectives.

    Attributes:
        manifest: images with the splits `train` and `test`.
        out: folder of everything.
        seeds: of pretraining and fine-tuning.
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
    mgll: ObjectiveName = "mgll"
    train_questions: int | None = None
    test_questions: int | None = None
    overlap: Rule = "refuse"
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    tokens: TokenPolicy = "pooled"
    host: DemoHostSettings = field(default_factory=DemoHostSettings)


def main() -> None:
    """Parse the settings and run."""
    settings = parse_settings(CompareSettings, __doc__ or "")
    try:
        compare(settings)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


def compare(settings: CompareSettings) -> Path:
    """Run the comparison; returns the path of summary.md."""
    out = Path(settings.out)
    questions = {split: _questions(settings, split) for split in ("train", "test")}
    probes: dict[str, list[str]] = {name: [] for name in (RANDOM, CLIP, MGLL)}
    for seed in settings.seeds:
        folder = out / f"seed-{seed}"
        towers = _towers(settings, folder, seed)
        for name, tower in towers.items():
            probes[name].append(_probe(tower, settings.manifest))
        towers = _standardised(settings, folder, towers)
        for name, model in _grafts(settings, folder, towers).items():
            tuned = _finetune(settings, model, questions["train"], folder / f"{name}-tuned", seed)
            _score(tuned, questions["test"], folder / f"{name}-scores", name)
        _score(folder / f"{MGLL}-tuned", questions["test"], folder / BLIND, MGLL, blind=True)
        _score(folder / f"{MGLL}-tuned", questions["test"], folder / f"{MGLL}-scores", MGLL, folder / f"{CLIP}-scores")
    summary = _summary(out, settings.seeds, probes)
    write_text(out / "summary.md", summary)
    report = out / f"seed-{settings.seeds[0]}" / f"{MGLL}-scores" / "report.html"
    print(f"\n{summary}\nsummary: {out / 'summary.md'}\nreport:  {report}")
    return out / "summary.md"


def _summary(out: Path, chosen: tuple[int, ...], probes: dict[str, list[str]]) -> str:
    # here, because torch takes seconds to import
    from benchmark.report import seeds

    folders = [out / f"seed-{seed}" for seed in chosen]
    runs = {name: [read_run(folder / f"{name}-scores") for folder in folders] for name in probes}
    averages = {name: seeds.average(name, found) for name, found in runs.items()}
    blind = seeds.average(f"{MGLL}, blank images", [read_run(folder / BLIND) for folder in folders])
    differences = [
        seeds.sentence(averages[a], averages[b], seeds.compare(averages[a], averages[b], runs[a][0]))
        for a, b in ((RANDOM, CLIP), (RANDOM, MGLL), (CLIP, MGLL))
    ]
    reading = _text_only(folders[0] / "host")
    lines = [
        seeds.table([*averages.values(), blind]),
        "",
        *(f"- {difference}" for difference in differences),
        f"- chance is 25 %; the decoder reads {reading:.1%} of the questions whose finding is given in words",
        "",
        "Linear probe, macro AUC on the test split (in brackets: classes with 20 images or more), a seed each:",
        "",
        *(f"- {name}: {', '.join(found)}" for name, found in probes.items()),
        "",
        "Research use only, not for diagnosis.",
        "",
    ]
    return "\n".join(lines)


def _questions(settings: CompareSettings, split: str) -> Path:
    """Balanced questions of a split: no strategy that ignores the image beats 25 %."""
    from benchmark.cases.building import build_cases

    path = Path(settings.out) / f"{split}.jsonl"
    if not path.is_file():
        count = settings.train_questions if split == "train" else settings.test_questions
        check = OverlapCheck(rule=settings.overlap)
        build_cases(settings.manifest, path, split, check, count=count)  # type: ignore[arg-type]
    return path


def _towers(settings: CompareSettings, folder: Path, seed: int) -> dict[str, Path]:
    """A random, a CLIP and an MGLL tower of the same architecture."""
    from mllm_adapters.demo.host import save_random_tower

    towers = {RANDOM: folder / "random-tower.ckpt"}
    shared = settings.pretrain
    save_random_tower(
        towers[RANDOM], seed, shared.encoder, shared.preprocessing, shared.pooling, shared.encoder_options
    )
    objectives: dict[str, ObjectiveName] = {CLIP: "clip", MGLL: settings.mgll}
    for name, objective in objectives.items():
        towers[name] = folder / f"{name}-tower" / "mgll.ckpt"
        if not towers[name].is_file():
            from mgll.training.pretraining import pretrain

            run = replace(
                settings.pretrain,
                objective=objective,
                seed=seed,
                manifest=settings.manifest,
                out=str(towers[name].parent),
            )
            pretrain(run)
    return towers


def _standardised(settings: CompareSettings, folder: Path, towers: dict[str, Path]) -> dict[str, Path]:
    """The towers, rewritten with image features of mean 0 and variance 1, so that no connector starts at a disadvantage."""
    from mgll.tower.standardise import standardise_tower

    images = [record.image for record in read_manifest(settings.manifest, "train")][:1000]
    written = {name: folder / f"{name}-standardised.ckpt" for name in towers}
    for name, tower in towers.items():
        if not written[name].is_file():
            standardise_tower(tower, images, written[name])
    return written


def _probe(tower: Path, manifest: str) -> str:
    results = probe_tower(tower, manifest)
    return f"{macro_auc(results):.3f} ({macro_auc(results, 20):.3f})"


def _grafts(settings: CompareSettings, folder: Path, towers: dict[str, Path]) -> dict[str, Path]:
    """The host on the CLIP tower, and its grafts with every tower."""
    from mllm_adapters.demo.host import build_demo_host, save_random_tower

    own = towers[CLIP]
    if read_header(own).kind != CLIP_KIND:  # the demo host holds no other; all three arms are grafts anyway
        save_random_tower(own := folder / "host-tower.ckpt")
    host = build_demo_host(own, folder / "host", settings.host)
    models = {name: folder / f"{name}-graft" for name in (RANDOM, CLIP, MGLL)}
    for name, model in models.items():
        graft_tower(get_host("llava"), host, towers[name], model, GraftSettings(tokens=settings.tokens))
    return models


def _finetune(settings: CompareSettings, model: Path, questions: Path, out: Path, seed: int) -> Path:
    from mllm_adapters.finetuning.finetune import finetune

    return finetune(model, training_questions(questions), out, replace(settings.finetune, seed=seed))


def _score(model: Path, cases: Path, out: Path, name: str, against: Path | None = None, blind: bool = False) -> None:
    asking = Asking(images="blank" if blind else "own", batch_size=32)
    run(str(model), cases, out, against, asking, out.parent / BLIND if against else None, name=name)


def _text_only(host: Path) -> float:
    from mllm_adapters.demo.reading import text_only_accuracy

    loaded = load(host)
    return text_only_accuracy(loaded.model, loaded.processor)


if __name__ == "__main__":
    main()
