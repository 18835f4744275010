"""What fine-tuning forgets of a general task, with and without conversations mixed in, at toy size: three runs of lmms-eval.

    python tests/forgetting.py --out FOLDER [--steps 120] [--chat-share 0.25] [--asked 200]

The tiny LLaVA whose language model reads gets a random tower. The general task is text alone: a finding is named in words, and four
options are asked about. Asked are the graft, the graft tuned on questions about drawn eyes, and the same with a share of each batch
drawn from conversations of the general kind (LLaVA's JSON, pictures of noise, other questions). docs/lmms_eval.md has the commands
for a real host. It says what the chain does, not what a 7B host forgets.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager
from PIL import Image

from benchmark.cases.building import build_cases
from benchmark.cases.overlap import OverlapCheck
from benchmark.cases.training import training_questions
from benchmark.stats.significance import mcnemar
from mgll.images.preprocessing import Preprocessing
from mgll.synthetic.dataset import generate
from mgll.vocabulary.questions import LETTERS
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.demo.host import save_random_tower
from mllm_adapters.demo.reading import draw_question, in_words, text_of
from mllm_adapters.demo.tiny_hosts import build_tiny_host
from mllm_adapters.finetuning.conversations import read_conversations
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.settings import FinetuneSettings

TASK = "words"


def main() -> int:
    """Ask, tune twice, ask again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of everything; must be new")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--chat-share", type=float, default=0.25)
    parser.add_argument("--asked", type=int, default=200)
    options = parser.parse_args()
    folder = options.out.resolve()
    folder.mkdir(parents=True)
    general_task(folder / "tasks", options.asked)
    save_random_tower(folder / "tower.ckpt", encoder="vit-mini-16", preprocessing=Preprocessing(size=96))
    base = build_tiny_host("llava", folder / "host")
    graft_tower(get_host("llava"), base, folder / "tower.ckpt", folder / "graft", GraftSettings(tokens="pooled"))
    manifest = generate(folder / "eyes", 240, seed=0, size=64, progress=False)
    build_cases(manifest, folder / "train.jsonl", "train", OverlapCheck(), count=200, seed=0)
    questions = training_questions(folder / "train.jsonl")
    chats, _ = read_conversations(conversations(folder / "chats", 200))
    for name, share in (("without", 0.0), ("with", options.chat_share)):
        settings = FinetuneSettings(
            steps=options.steps, batch_size=16, learning_rate=2e-3, connector_learning_rate=2e-3, chat_share=share
        )
        finetune(folder / "graft", questions, folder / name, settings, chats=chats if share else ())
    right = {name: asked(folder, name) for name in ("graft", "without", "with")}
    for name, own in right.items():
        print(f"{name}: {np.mean(own):.1%} of {len(own)} general questions")
    for one, other in (("graft", "without"), ("graft", "with"), ("without", "with")):
        print(f"{one} against {other}: {mcnemar(right[one], right[other])}")
    return 0


def drawn(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Questions in words with their letters."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        question = draw_question(random, spread=False)
        yield f"{in_words(question, random)}\n{text_of(question)}", LETTERS[question.answer]


def general_task(folder: Path, count: int) -> None:
    """A task of lmms-eval without any function of ours."""
    folder.mkdir()
    rows = [{"question": asked, "answer": LETTERS.index(letter)} for asked, letter in drawn(count, seed=1)]
    (folder / f"{TASK}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{TASK}.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "question",
        "doc_to_choice": list(LETTERS),
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / f"{TASK}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


def conversations(folder: Path, count: int) -> Path:
    """Other questions of the kind in LLaVA's JSON, each with a picture of noise."""
    folder.mkdir()
    random, entries = np.random.default_rng(2), []
    for number, (asked, letter) in enumerate(drawn(count, seed=3)):
        Image.fromarray(random.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        turns = [{"from": "human", "value": f"<image>\n{asked}"}, {"from": "gpt", "value": letter}]
        entries.append({"image": f"{number}.png", "conversations": turns})
    (folder / "chats.json").write_text(json.dumps(entries), encoding="utf-8")
    return folder / "chats.json"


def asked(folder: Path, name: str) -> list[float]:
    """Whether each general question is answered right, as lmms-eval counts it."""
    found: Any = simple_evaluate(
        "mgll_graft",
        f"pretrained={folder / name}",
        tasks=[TASK],
        batch_size=8,
        device="cpu",
        task_manager=TaskManager(include_path=str(folder / "tasks"), include_defaults=False, model_name="mgll_graft"),
        force_simple=True,
        bootstrap_iters=0,
    )
    return [row["acc"] for row in sorted(found["samples"][TASK], key=lambda row: row["doc_id"])]


if __name__ == "__main__":
    sys.exit(main())
