"""LLaVA as published before autumn 2024, whose processor's file does not say how many image tokens there are."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mllm_adapters import ask, convert, swap
from mllm_adapters.graft.validation import validate
from mllm_adapters.hosts.llava.host import COUNTS
from mllm_adapters.loading.load import load

PROCESSOR, IMAGES = "processor_config.json", "preprocessor_config.json"


@pytest.fixture
def old(host_directory: Path, tmp_path: Path) -> Callable[..., Path]:
    """The tiny host with the image processor in its own file, and without these facts in the processor's."""

    def make(*lacking: str, file: bool = True) -> Path:
        directory = Path(shutil.copytree(host_directory, tmp_path / "old"))
        content = json.loads((directory / PROCESSOR).read_text())
        image = content.pop("image_processor")
        (directory / IMAGES).write_text(json.dumps(image | {"processor_class": "LlavaProcessor"}))
        (directory / PROCESSOR).write_text(json.dumps({k: v for k, v in content.items() if k not in lacking}))
        if not file:
            (directory / PROCESSOR).unlink()
        return directory

    return make


@pytest.mark.parametrize("lacking", [COUNTS, ("patch_size",), ("num_additional_image_tokens",), "no file"])
def test_the_facts_are_taken_from_the_model(
    lacking: tuple[str, ...] | str,
    old: Callable[..., Path],
    make_tower: Callable[..., Path],
    photographs,
    tmp_path: Path,
) -> None:
    source = old(file=False) if isinstance(lacking, str) else old(*lacking)
    out, graft = tmp_path / "converted", tmp_path / "graft"
    assert convert.main(["--model", "llava", "--checkpoint", str(source), "--out", str(out)]) == 0
    command = ["--model", "llava", "--encoder", str(make_tower()), "--checkpoint", str(source), "--out", str(graft)]
    assert swap.main(command) == 0
    for directory in (source, out, graft):  # the old folder itself can be asked, too
        loaded = load(directory)
        encoded = loaded.processor(images=[_image(photographs[0])], text=["<image>"], return_tensors="pt")
        assert int((encoded["input_ids"] == loaded.model.config.image_token_id).sum()) == 9
        assert isinstance(ask.ask(loaded, photographs[0], "What is it?", max_new_tokens=2), str)
    assert {name: json.loads((out / PROCESSOR).read_text())[name] for name in COUNTS} == {
        "patch_size": 8,
        "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": "default",
    }
    assert validate(out).features == validate(graft).features == 9


def test_a_null_is_no_fact(old: Callable[..., Path], tmp_path: Path) -> None:
    source = old()
    content = json.loads((source / PROCESSOR).read_text())
    (source / PROCESSOR).write_text(json.dumps(content | dict.fromkeys(COUNTS)))
    out = tmp_path / "converted"
    assert convert.main(["--model", "llava", "--checkpoint", str(source), "--out", str(out)]) == 0
    assert json.loads((out / PROCESSOR).read_text())["patch_size"] == 8


@pytest.mark.parametrize(
    ("file", "change", "found"),
    [
        (PROCESSOR, {"patch_size": 12}, "yields 9 features an image, the processor puts in 4 image tokens"),
        (PROCESSOR, {"num_additional_image_tokens": 0}, "the processor puts in 8"),
        (PROCESSOR, {"vision_feature_select_strategy": "full"}, "the processor puts in 10"),
        (IMAGES, {"size": {"height": 32, "width": 32}}, "the processor puts in 16"),
    ],
)
def test_convert_refuses_a_processor_that_does_not_fit_the_tower(
    file: str, change: dict, found: str, old: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = old()
    content = json.loads((source / file).read_text())
    (source / file).write_text(json.dumps(content | change))
    assert convert.main(["--model", "llava", "--checkpoint", str(source), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert found in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["internvl", "janus-pro", "instructblip", "qwen-vl"])
def test_convert_refuses_another_count_in_every_family_that_counts(
    name: str, hosts: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(shutil.copytree(hosts(name), tmp_path / "host"))
    content = json.loads((source / PROCESSOR).read_text())
    (key,) = content.keys() & {"image_seq_length", "num_image_tokens", "num_query_tokens", "count"}
    (source / PROCESSOR).write_text(json.dumps(content | {key: content[key] + 1}))
    assert convert.main(["--model", name, "--checkpoint", str(source), "--out", str(tmp_path / "out")]) == 1
    assert "image tokens" in capsys.readouterr().err


def _image(path: Path):
    from PIL import Image

    return Image.open(path).convert("RGB")


def test_the_logits_are_those_of_the_whole_folder(old: Callable[..., Path], host_directory: Path, photographs) -> None:
    one, other = load(host_directory), load(old(*COUNTS))
    encoded = [
        loaded.processor(images=[_image(photographs[0])], text=["<image>What?"], return_tensors="pt")
        for loaded in (one, other)
    ]
    with torch.inference_mode():
        logits = [m.model(**inputs).logits for m, inputs in zip((one, other), encoded, strict=True)]
    assert torch.equal(*logits)
