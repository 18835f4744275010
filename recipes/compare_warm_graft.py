"""What is a warm graft worth? Answers right after the graft, and fine-tuning steps to the same validation loss, next to cold ones.

    python recipes/compare_warm_graft.py --manifest eyes/manifest.jsonl --host-tower clip.ckpt --donor-tower mgll.ckpt \
        --train train.jsonl --validation test.jsonl

A LLaVA is built on the host tower, and its connector aligned and tuned. The donor goes into it three times: warm, cold with the
host's connector as it is, and cold with a new connector. Each is fine-tuned alike with several budgets of steps, each budget a
whole run of its own. Ends with summary.md. What is finished is not done again, unless what it was made of has changed.

Research use only, not for diagnosis.
"""

import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmark.cases.case import read_cases
from benchmark.cases.training import training_questions
from benchmark.scorers.scorer import Ask
from benchmark.stats.rotations import expected_correct
from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mgll.files import atomic_path, write_text
from mgll.formats import check_there
from mgll.images.preprocessing import open_image
from mgll.manifest.records import read_manifest
from mgll.progress import overall
from mgll.run_folder import locked
from mgll.stage import stage
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.demo.settings import DemoHostSettings
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load, shard_hashes
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

WARM, KEPT, NEW = "warm", "cold, connector kept", "cold, connector new"


@dataclass(frozen=True)
class WarmComparison:
    """A comparison of a warm graft with cold ones.

    Attributes:
        manifest: images; those of its split `train` are the unlabelled ones.
        host_tower: tower file of the host.
        donor_tower: tower file that is grafted.
        train: questions to learn.
        validation: questions that are scored.
        out: folder of everything.
        warm_images: number of unlabelled images.
        validation_questions: number of those that are scored.
        budgets: fine-tuning steps after the graft.
        host_finetune: how the host's connector is trained.
        finetune: how every graft is fine-tuned, but for its steps.
        host: how the demo host reads its tower.
    """

    manifest: str
    host_tower: str
    donor_tower: str
    train: str
    validation: str
    out: str = "runs/compare_warm_graft"
    warm_images: int = 400
    validation_questions: int = 600
    budgets: tuple[int, ...] = (10, 20, 40, 80)
    host_finetune: FinetuneSettings = field(
        default_factory=lambda: FinetuneSettings(rank=0, align=True, steps=200, batch_size=16)
    )
    finetune: FinetuneSettings = field(
        default_factory=lambda: FinetuneSettings(rank=0, connector_learning_rate=3e-4, batch_size=16)
    )
    host: DemoHostSettings = field(default_factory=DemoHostSettings)


@ends_in_one_line
def main() -> None:
    """Parse the settings and run."""
    settings = parse_settings(WarmComparison, __doc__ or "")
    check_there(settings.manifest, settings.train, settings.host_tower, settings.donor_tower)
    with locked(settings.out):
        print(compare(settings).read_text(encoding="utf-8"))


def compare(settings: WarmComparison) -> Path:
    """Run the comparison; returns the path of summary.md."""
    out, questions = Path(settings.out), training_questions(settings.train)
    say = overall(2 + 3 * len(settings.budgets))
    say("the host")
    host = _trained_host(settings, questions)
    curves = {"host, its own tower": {0: _score(host, settings, out / "host.json")}}
    say("grafts")
    for name, folder in _grafts(settings, host).items():
        curves[name] = {0: _score(folder, settings, out / f"{folder.name}-0.json")}
        for steps in settings.budgets:
            say(f"{name}, {steps} steps")
            own = replace(settings.finetune, steps=steps)
            tuned = _finetune(folder, settings.train, questions, out / f"{folder.name}-{steps}", own)
            curves[name][steps] = _score(tuned, settings, out / f"{folder.name}-{steps}.json")
    summary = out / "summary.md"
    write_text(summary, _summary(settings, curves))
    return summary


def _finetune(
    model: Path, cases: str, questions: list[TrainingQuestion], out: Path, settings: FinetuneSettings
) -> Path:
    # here, because torch takes seconds to import
    from mllm_adapters.finetuning.finetune import finetune

    made = {"model": shard_hashes(model), "questions": Path(cases), "settings": settings}
    return stage(out, made, lambda: finetune(model, questions, out, settings))


def _trained_host(settings: WarmComparison, questions: list[TrainingQuestion]) -> Path:
    """A checkpoint of the host with its connector trained for its own tower."""
    from safetensors.torch import load_file

    from mllm_adapters.demo.host import build_demo_host

    out = Path(settings.out)
    fresh = build_demo_host(settings.host_tower, out / "fresh-host", settings.host)
    tuned = _finetune(fresh, settings.train, questions, out / "host-tuned", settings.host_finetune)
    trained = out / "host"

    def join() -> None:
        loaded = load(fresh)
        connector = load_file(tuned / "adapter_model.safetensors")
        found = {name.removeprefix("base_model.model."): tensor for name, tensor in connector.items()}
        if loaded.model.load_state_dict(found, strict=False).unexpected_keys:
            raise ValueError("host_finetune trains more than the connector; its rank must be 0")
        with atomic_path(trained) as temporary:
            loaded.model.save_pretrained(temporary)
            loaded.processor.save_pretrained(temporary)

    made = {"host": shard_hashes(fresh), "trained": tuned / "adapter_model.safetensors"}
    return stage(trained, made, join)


def _grafts(settings: WarmComparison, host: Path) -> dict[str, Path]:
    images = [record.image for record in read_manifest(settings.manifest, "train")][: settings.warm_images]
    folders = {WARM: host.parent / "warm", KEPT: host.parent / "cold-kept", NEW: host.parent / "cold-new"}
    record = graft_tower(
        get_host("llava"), host, settings.donor_tower, folders[WARM], warm=[Path(image) for image in images]
    )
    assert record.warm is not None
    print(
        f"fitted on {record.warm.images} images: {record.warm.explained:.1%} of the variance explained on those left out"
    )
    graft_tower(get_host("llava"), host, settings.donor_tower, folders[KEPT])
    graft_tower(get_host("llava"), host, settings.donor_tower, folders[NEW], GraftSettings(connector="new"))
    return folders


def _score(model: Path, settings: WarmComparison, record: Path) -> tuple[float, float]:
    """Share of right answers, and the mean negative log-probability of the right one among the four."""
    from benchmark.scorers.transformers_scorer import TransformersScorer

    def score() -> None:
        scorer, right, loss = TransformersScorer(model), 0.0, 0.0
        cases = list(read_cases(settings.validation))[: settings.validation_questions]
        for i in range(0, len(cases), 50):
            some = cases[i : i + 50]
            asks = [Ask(open_image(case.image), case.question, (case.options,)) for case in some]
            for case, (score,) in zip(some, scorer.score(asks, ["letter"]), strict=True):
                assert score.log_probs is not None  # the letter view was asked for
                right += float(expected_correct([np.exp(score.log_probs)], [case.answer])[0])
                loss -= score.log_probs[case.answer]
        write_text(record, json.dumps([right / len(cases), loss / len(cases)]) + "\n")

    made = {"model": model, "questions": Path(settings.validation), "count": settings.validation_questions}
    right, loss = json.loads(stage(record, made, score).read_text(encoding="utf-8"))
    return right, loss


def _summary(settings: WarmComparison, curves: dict[str, dict[int, tuple[float, float]]]) -> str:
    steps = [0, *settings.budgets]
    rows = [f"| model | {' | '.join(f'{n} steps' for n in steps)} |", "|---" * (len(steps) + 1) + "|"]
    for name, curve in curves.items():
        cells = [f"{curve[n][0]:.1%} / {curve[n][1]:.3f}" if n in curve else "" for n in steps]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    lines = ["Right answers / validation loss after so many fine-tuning steps:", "", *rows, ""]
    for cold in (KEPT, NEW):
        for n in settings.budgets:
            reached = [m for m in steps if curves[WARM][m][1] <= curves[cold][n][1]]
            said = f"{reached[0]}" if reached else f"more than {steps[-1]}"
            lines.append(f"- the loss of {n} steps of `{cold}`: {said} steps after a warm graft")
    return "\n".join([*lines, "", "Chance is 25 %. Research use only, not for diagnosis.", ""])


if __name__ == "__main__":
    sys.exit(main())
