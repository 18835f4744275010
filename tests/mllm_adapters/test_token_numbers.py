"""A tokenizer with more tokens than the embeddings have rows is refused by its highest token, before anything is computed."""

import json
from pathlib import Path

import pytest
from tiny.any_host import save_tiny

from mgll.formats import FormatError
from mllm_adapters import convert
from mllm_adapters.loading.load import load


def test_a_token_without_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = tmp_path / "host"
    save_tiny("llava", host)
    path = host / "tokenizer.json"
    content = json.loads(path.read_text())
    content["added_tokens"].append({**content["added_tokens"][-1], "id": 90_000, "content": "<beyond>"})
    path.write_text(json.dumps(content))
    capsys.readouterr()
    assert convert.main(["--model", "llava", "--checkpoint", str(host), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "its tokenizer gives '<beyond>' the number 90000, its embeddings have" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_whole_tokenizer_of_another_checkpoint(tmp_path: Path) -> None:
    """Tokens that are no added ones are seen where the processor is loaded."""
    host = tmp_path / "host"
    save_tiny("llava", host)
    path = host / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {f"word{number}": number for number in range(len(vocabulary) + 100, len(vocabulary) + 5000)}
    path.write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"its embeddings have \d+ rows \(tokens without one: \d+\)"):
        load(host)
