"""InternVL in its makers' own layout: the same logits, tokens and tiles as the -hf form, through all commands."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from five_commands import five_commands
from published_internvl import CONFIG, LARGE, PATCH, SIZE, save_published
from safetensors.torch import load_file, save_file

from mgll.images.preprocessing import open_image
from mllm_adapters import ask, convert
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load

HOST = get_host("internvl")
PROMPT = HOST.prompt("What is shown in the picture?")


@pytest.mark.layout("internvl", "`internvl_chat`")
@pytest.mark.parametrize("kind", ["qwen2", "internlm2"])
def test_the_makers_layout_through_all_commands(
    kind: str, make_tower: Callable[..., Path], cases: Path, photographs: list[Path], tmp_path: Path
) -> None:
    model = save_published(kind, tmp_path / "published")
    encoder = make_tower(size=SIZE, patch_size=PATCH)
    done = five_commands("internvl", tmp_path / "published", encoder, cases, photographs[0], tmp_path)
    loaded = load(done.converted)
    wide = open_image(photographs[0]).resize((64, 32))
    inputs = loaded.processor(images=[wide], text=[PROMPT], return_tensors="pt")
    assert inputs["pixel_values"].shape == (3, 3, SIZE, SIZE)  # two tiles and the thumbnail
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == 12
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(**inputs).logits, model(**inputs).logits, rtol=1e-5, atol=1e-5)
    assert not [path.name for path in done.converted.iterdir() if path.suffix == ".py"]
    text = loaded.processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is shown in the picture?"}]}],
        add_generation_prompt=True,
    )
    assert text == PROMPT


@pytest.mark.parametrize(("kind", "tower"), [("qwen3", {}), ("internlm3", {}), ("qwen2", LARGE)])
def test_other_languages_and_the_larger_tower(kind: str, tower: dict, photographs: list[Path], tmp_path: Path) -> None:
    model = save_published(kind, tmp_path / "published", tower)
    of = ["--model", "internvl", "--checkpoint", str(tmp_path / "published")]
    assert convert.main([*of, "--out", str(tmp_path / "host")]) == 0
    loaded = load(tmp_path / "host")
    inputs = loaded.processor(images=[open_image(photographs[0])], text=[PROMPT], return_tensors="pt")
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(**inputs).logits, model(**inputs).logits, rtol=1e-5, atol=1e-5)


def test_one_table_of_embeddings_for_both_ends(tmp_path: Path) -> None:
    save_published("qwen2", tmp_path / "published")
    for shard in (tmp_path / "published").glob("*.safetensors"):
        kept = {name: tensor for name, tensor in load_file(shard).items() if "lm_head" not in name}
        save_file(kept, shard, {"format": "pt"})
    index = tmp_path / "published" / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"].pop("language_model.lm_head.weight")
    index.write_text(json.dumps(content))
    of = ["--model", "internvl", "--checkpoint", str(tmp_path / "published")]
    assert convert.main([*of, "--out", str(tmp_path / "host")]) == 0
    model = load(tmp_path / "host").model
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


def test_the_tokens_are_those_of_sentencepiece(tmp_path: Path) -> None:
    import sentencepiece

    save_published("internlm2", tmp_path / "published")
    assert (
        convert.main(["--model", "internvl", "--checkpoint", str(tmp_path / "published"), "--out", str(tmp_path / "h")])
        == 0
    )
    tokenizer = load(tmp_path / "h").processor.tokenizer
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "published" / "tokenizer.model"))
    special = {"<|im_start|>", "<|im_end|>", "<IMG_CONTEXT>"}
    added = json.loads((tmp_path / "published" / "added_tokens.json").read_text())
    expected = [1]
    for stretch in re.split(f"({'|'.join(map(re.escape, special))})", PROMPT):
        expected += [added[stretch]] if stretch in special else pieces.encode(stretch)
    assert tokenizer(PROMPT)["input_ids"] == expected
    assert tokenizer.eos_token_id == added["<|im_end|>"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"llm_config": {"model_type": "phi3"}}, "language model is 'phi3'.* take OpenGVLab/InternVL2_5-8B"),
        ({"ps_version": "v1"}, "before InternVL 2 .* take OpenGVLab/InternVL2-8B"),
        ({"force_image_size": 2 * SIZE}, "force_image_size 64 beside a tower of 32 px"),
    ],
)
def test_other_kinds_are_refused_with_one_that_works(
    change: dict, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_published("qwen2", tmp_path / "published")
    content = json.loads((tmp_path / "published" / "config.json").read_text())
    (tmp_path / "published" / "config.json").write_text(json.dumps(content | change))
    assert (
        convert.main(["--model", "internvl", "--checkpoint", str(tmp_path / "published"), "--out", str(tmp_path / "h")])
        == 1
    )
    error = capsys.readouterr().err
    assert re.search(said, error)
    assert error.count("\n") == 1


def test_other_commands_say_what_to_type(
    tmp_path: Path, photographs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "config.json").write_text(json.dumps(CONFIG))
    assert ask.main([str(tmp_path / "published"), "What?", "--image", str(photographs[0])]) == 1
    assert "python -m mllm_adapters.convert --model internvl --checkpoint" in capsys.readouterr().err
    shutil.copytree(tmp_path / "published", tmp_path / "again")
    assert (
        convert.main(["--model", "llava", "--checkpoint", str(tmp_path / "again"), "--out", str(tmp_path / "h")]) == 1
    )
    assert "type --model internvl" in capsys.readouterr().err
