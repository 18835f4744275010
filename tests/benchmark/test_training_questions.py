"""Cases become questions to learn, with the letter for the loss and the words for the alignment of a connector."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.cases.case import read_cases
from benchmark.cases.training import training_questions
from mllm_adapters.demo.host import demo_checkpoint

ROOT = Path(__file__).parents[2]


def test_letter_and_caption_are_the_right_answers(cases_file: Path) -> None:
    cases, questions = read_cases(cases_file), training_questions(cases_file)
    assert len(questions) == len(cases) == 48
    for case, question in zip(cases, questions, strict=True):
        assert str(question.image) == case.image
        assert question.caption == case.options[case.answer]
        assert f"{question.letter}. {question.caption}" in question.question


@pytest.mark.slow
def test_the_recipe_aligns_the_connector_with_the_captions(cases_file: Path, tmp_path: Path) -> None:
    host = demo_checkpoint(tmp_path / "host")
    recipe = [sys.executable, str(ROOT / "recipes" / "finetune_mllm.py"), "--model", str(host), "--align", "true"]
    small = ["--cases", str(cases_file), "--out", str(tmp_path / "tuned"), "--steps", "1", "--batch_size", "8"]
    ran = subprocess.run([*recipe, *small], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "connector aligned with captions" in ran.stdout
    assert (tmp_path / "tuned" / "adapter_model.safetensors").is_file()
