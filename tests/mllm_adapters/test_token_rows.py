"""Tokens beyond the rows of the embeddings: one line where a prompt uses one, and no word where none does."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny.any_host import save_tiny
from transformers import AutoTokenizer

from benchmark.run_mcq import main as run_mcq
from mgll.formats import FormatError
from mllm_adapters import ask, convert, swap
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.loading.load import load
from mllm_adapters.prompting.encoding import encode_prompts, encode_text
from mllm_adapters.prompting.rows import replies
from mllm_adapters.prompting.scoring import log_probs
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

TOLD = "rows: tokenizer and weights are not of the same checkpoint"


def renumber(host: Path, token: str, folder: str = "") -> Path:
    """Put a token of a host's tokenizer, an old or a new one, behind all others, where the embeddings have no row."""
    path = host / folder / "tokenizer.json"
    content = json.loads(path.read_text())
    added = content["added_tokens"]
    own = next((entry for entry in added if entry["content"] == token), added[-1] | {"special": False})
    for entry in added:
        if entry is own:
            entry["content"] = "<in its old place>"
    count = 1 + max(entry["id"] for entry in added)
    added += [own | {"content": f"<another {i}>", "id": count + i} for i in range(300)]  # there may be spare rows
    added.append(own | {"content": token, "id": count + 300})
    path.write_text(json.dumps(content))
    return host


def image_number(host: Path, token: str) -> None:
    """Let config.json say the number that the tokenizer gives to the image token."""
    path = host / "config.json"
    config = json.loads(path.read_text())
    number = AutoTokenizer.from_pretrained(host).convert_tokens_to_ids(token)
    path.write_text(json.dumps(config | {"image_token_index": number, "image_token_id": number}))


def refused(main: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(arguments) == 1
    err = capsys.readouterr().err
    said = [line for line in err.splitlines() if TOLD in line]
    assert len(said) == 1, err
    assert "Traceback" not in said[0]


@pytest.mark.parametrize("name", ["llava", "qwen3-vl", "janus-pro"])
def test_an_image_token_without_a_row(
    name: str, donor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = save_tiny(name, tmp_path / "host")
    token = load(host).processor.tokenizer.convert_ids_to_tokens(load(host).model.config.image_token_id)
    image_number(renumber(host, token), token)
    of = ["--model", name, "--checkpoint", str(host), "--out", str(tmp_path / "out")]
    refused(convert.main, of, capsys)
    refused(swap.main, [*of, "--encoder", str(donor)], capsys)
    assert not (tmp_path / "out").exists()


def test_a_word_of_the_question_without_a_row(
    cases: Path, photographs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command that reads such a question refuses it; the host itself is fine."""
    host = renumber(save_tiny("llava", tmp_path / "host"), "Cataract")
    image = ["--image", str(photographs[0]), "--max-new-tokens", "1"]
    assert ask.main([str(host), "What?", *image]) == 0
    refused(ask.main, [str(host), "Which Cataract?", *image], capsys)
    assert "Cataract" in cases.read_text()
    refused(run_mcq, ["--model", str(host), "--cases", str(cases), "--out", str(tmp_path / "scores")], capsys)
    question = TrainingQuestion(photographs[0], "Which Cataract?", "A")
    with pytest.raises(FormatError, match=TOLD):
        finetune(host, [question], tmp_path / "tuned", FinetuneSettings(rank=2, steps=1, batch_size=1))
    with pytest.raises(FormatError, match=TOLD):
        encode_text(load(host), "Which Cataract?")


def test_the_second_text_encoder_has_rows_of_its_own(tmp_path: Path) -> None:
    loaded = load(renumber(save_tiny("instructblip", tmp_path / "host"), "Cataract", "qformer_tokenizer"))
    encode_prompts(loaded, Image.new("RGB", (32, 32)), [loaded.host.prompt("What?")])
    with pytest.raises(FormatError, match=TOLD):
        encode_prompts(loaded, Image.new("RGB", (32, 32)), [loaded.host.prompt("Which Cataract?")])


@pytest.mark.parametrize("name", ["llava", "paligemma"])
def test_padding_needs_no_row(name: str, tmp_path: Path) -> None:
    """A batch of unequal prompts gives what each gives alone."""
    host = save_tiny(name, tmp_path / "host")
    prompts = [load(host).host.prompt(text) for text in ("What?", "What is it that one sees?")]

    def scored(directory: Path) -> tuple[list[torch.Tensor], list[list[str]]]:
        loaded = load(directory)
        encoded = [encode_prompts(loaded, Image.new("RGB", (32, 32)), [prompt]) for prompt in prompts]
        with torch.inference_mode():
            found = log_probs(loaded, encoded, [[[]], [[]]])
            return [tensors[0] for (tensors,) in found], replies(loaded, encoded, 3)

    wanted, said = scored(host)
    found, said_too = scored(renumber(host, "<pad>"))
    for one, other in zip(wanted, found, strict=True):
        torch.testing.assert_close(one, other)
    assert said == said_too


def test_an_image_token_that_the_model_replaces_needs_no_row(tmp_path: Path) -> None:
    host = save_tiny("paligemma", tmp_path / "host")
    wanted = _first(host)
    image_number(renumber(host, "<image>"), "<image>")
    torch.testing.assert_close(_first(host), wanted)


def _first(host: Path) -> torch.Tensor:
    loaded = load(host)
    encoded = encode_prompts(loaded, Image.new("RGB", (32, 32)), [loaded.host.prompt("What?")])
    with torch.inference_mode():
        (((found,),),) = log_probs(loaded, [encoded], [[[]]])
    return found
