"""lmms-eval launched for real, offline: what it says about our cases is what we say, case by case and view by view."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_models import stirred_graft, stirred_host
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from benchmark.cases.case import Case, write_cases
from benchmark.cases.images import open_case_image
from benchmark.harnesses.lmms_export import main as export
from benchmark.predictions.file import most_probable
from benchmark.replies.parsing import parse_reply
from benchmark.scorers.lmms_eval_scorer import LmmsEvalScorer
from benchmark.scorers.scorer import VIEWS, Ask
from benchmark.scorers.transformers_scorer import TransformersScorer
from mllm_adapters.hosts.registry import get_host

prompt = get_host("llava").prompt
pytest.importorskip("lmms_eval", reason="the extra `lmms-eval` is not installed")
pytestmark = pytest.mark.slow

OURS = "mgll_letter,mgll_text,mgll_option"
COLOURS = {"red": (220, 20, 20), "green": (20, 200, 30), "blue": (10, 30, 230)}

Samples = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lmms")


@pytest.fixture(scope="module")
def cases(coloured_cases: Callable[..., list[Case]], folder: Path) -> list[Case]:
    """Nine, so that two processes have not the same number of them."""
    (folder / "cases").mkdir()
    made = coloured_cases(9, folder / "cases")
    write_cases(folder / "cases" / "cases.jsonl", made)
    assert export([str(folder / "cases" / "cases.jsonl"), "--out", str(folder / "tasks")]) == 0
    return made


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, Path]:
    return {
        "graft": stirred_graft(folder / "llava"),
        "instructblip": stirred_host("instructblip", folder / "instructblip"),
        "host": stirred_host("llava", folder / "host"),
    }


@pytest.fixture(scope="module")
def runs(folder: Path, cases: list[Case], models: dict[str, Path]) -> dict[str, tuple[Samples, dict[str, Any]]]:
    """Three launches at once: a graft, another host in two processes, and lmms-eval's own LLaVA on the untouched host."""
    write_general_tasks(folder / "tasks" / "general")
    two = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    launches = {
        "graft": ([], f"{OURS},colours,words", "mgll_graft", f"pretrained={models['graft']}", "4"),
        "instructblip": (two, OURS, "mgll_graft", f"pretrained={models['instructblip']}", "2"),
        "llava_hf": ([], "mgll_text", "llava_hf", f"pretrained={models['host']},device_map=cpu", "1"),
    }
    started = {name: launch(folder, folder / "out" / name, *what) for name, what in launches.items()}
    return {name: finished(run, folder / "out" / name) for name, run in started.items()}


def launch(
    folder: Path, out: Path, launcher: list[str], tasks: str, model: str, arguments: str, batch: str
) -> subprocess.Popen[str]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(out / "hub"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *launcher, "lmms_eval", "--include_path", str(folder / "tasks"), "--tasks", tasks]
    command += ["--model", model, "--model_args", arguments, "--batch_size", batch, "--device", "cpu", "--force_simple"]
    command += ["--log_samples", "--output_path", str(out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(run: subprocess.Popen[str], out: Path) -> tuple[Samples, dict[str, Any]]:
    """Logged samples by task in the order of the cases, and the table."""
    said, _ = run.communicate(timeout=500)
    tables = list(out.rglob("*_results.json"))
    assert tables, said[-4000:]  # lmms-eval ends with 0 whatever happened
    samples = {}
    for path in out.rglob("*_samples_*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        samples[path.stem.partition("_samples_")[2]] = sorted(rows, key=lambda row: row["doc_id"])
    return samples, json.loads(tables[0].read_text())["results"]


def write_general_tasks(folder: Path) -> None:
    """Two tasks as anybody may write them, without a function of ours: colours of pictures, and words without a picture."""
    (folder / "colours" / "test").mkdir(parents=True)
    rows = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        Image.new("RGB", (48, 40), colour).save(folder / "colours" / "test" / f"{name}.png")
        rows.append({"file_name": f"{name}.png", "question": "Which colour is it?", "answer": number})
    (folder / "colours" / "test" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [{"question": f"The {word} is part of the", "answer": n} for n, word in enumerate(["retina", "thumb"])]
    (folder / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in words))
    shared = {
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "question",
        "doc_to_target": "answer",
    }
    shared["metric_list"] = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
    colours = {
        "task": "colours",
        "dataset_path": "imagefolder",
        "dataset_kwargs": {"data_dir": str(folder / "colours")},
    }
    colours |= {"doc_to_visual": "image", "doc_to_choice": list(COLOURS), **shared}
    plain = {"task": "words", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "words.jsonl"}}}
    plain |= {"doc_to_choice": ["eye", "hand"], **shared}
    for task in (colours, plain):
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(task))


def ask(case: Case) -> Ask:
    return Ask(open_case_image(case), case.question, (case.options,))


def losses(sample: dict[str, Any]) -> np.ndarray:
    return np.array([float(loss) for loss, _ in sample["filtered_resps"]])


@pytest.mark.parametrize("name", ["graft", "instructblip"])
def test_its_answers_are_ours_case_by_case_and_view_by_view(name: str, runs, models, cases: list[Case]) -> None:
    samples, table = runs[name]
    ours = [found[0] for found in TransformersScorer(models[name]).score([ask(case) for case in cases], VIEWS)]
    assert {task: len(rows) for task, rows in samples.items() if "mgll" in task} == dict.fromkeys(OURS.split(","), 9)
    assert len({score.text for score in ours}) > 2, "answers that are all alike would show nothing"
    assert np.ptp([score.log_probs for score in ours], axis=0).max() > 0.1
    chosen: dict[str, list[int | None]] = {"letter": [], "option": [], "text": []}
    for number, (case, score) in enumerate(zip(cases, ours, strict=True)):
        letter, option, text = (samples[f"mgll_{view}"][number] for view in ("letter", "option", "text"))
        assert letter["input"] == ask(case).texts[0]
        found = -losses(letter)
        np.testing.assert_allclose(found - np.logaddexp.reduce(found), score.log_probs, atol=1e-4)
        np.testing.assert_allclose(-losses(option), score.option_log_probs, atol=1e-4)
        assert text["filtered_resps"] == score.text
        chosen["letter"].append(most_probable(score.log_probs))
        chosen["option"].append(most_probable(score.option_log_probs))
        chosen["text"].append(parse_reply(score.text, case.options).choice)
    for view, found in chosen.items():
        assert [sample["chosen"] for sample in samples[f"mgll_{view}"]] == found
        correct = [choice == case.answer for choice, case in zip(found, cases, strict=True)]
        line = table[f"mgll_{view}"]
        assert line["acc,none"] == pytest.approx(np.mean(correct))
        for code in {case.code for case in cases}:
            own = [right for right, case in zip(correct, cases, strict=True) if case.code == code]
            assert line[f"acc_{code},none"] == pytest.approx(np.mean(own))
    assert table["mgll_text"]["unparsed,none"] == pytest.approx(chosen["text"].count(None) / 9)


def test_its_own_llava_answers_our_cases_as_it_does_through_our_scoring(runs, models, cases: list[Case]) -> None:
    samples, table = runs["llava_hf"]
    scorer = LmmsEvalScorer(f"llava_hf:pretrained={models['host']},device_map=cpu")
    ours = [found[0].text for found in scorer.score([ask(case) for case in cases], ["text"])]
    assert [sample["filtered_resps"] for sample in samples["mgll_text"]] == ours
    assert len(set(ours)) > 2
    right = [parse_reply(text, case.options).choice == case.answer for text, case in zip(ours, cases, strict=True)]
    assert table["mgll_text"]["acc,none"] == pytest.approx(np.mean(right))


def test_a_general_task_is_answered_by_the_graft_as_plain_transformers_has_it(runs, models, folder: Path) -> None:
    samples, table = runs["graft"]
    model = LlavaForConditionalGeneration.from_pretrained(models["graft"]).eval()
    processor = LlavaProcessor.from_pretrained(models["graft"])

    def loss(question: str, answer: str, image: Image.Image | None) -> float:
        asked = prompt(question) if image else prompt(question).replace("<image>\n", "")
        inputs = processor(images=image, text=f"{asked} {answer}", return_tensors="pt")
        before = processor(images=image, text=asked, return_tensors="pt")["input_ids"].shape[1]
        labels = inputs["input_ids"].clone()
        labels[:, :before] = -100
        with torch.inference_mode():
            return model(**inputs, labels=labels).loss.item()

    for sample in samples["colours"]:
        name = list(COLOURS)[int(sample["target"])]
        image = Image.open(folder / "tasks" / "general" / "colours" / "test" / f"{name}.png")
        expected = [loss("Which colour is it?", colour, image) for colour in COLOURS]
        np.testing.assert_allclose(losses(sample), expected, atol=1e-4)
    for sample, word in zip(samples["words"], ["retina", "thumb"], strict=True):
        expected = [loss(f"The {word} is part of the", end, None) for end in ("eye", "hand")]
        np.testing.assert_allclose(losses(sample), expected, atol=1e-4)
    assert {"acc,none"} <= table["colours"].keys() & table["words"].keys()
