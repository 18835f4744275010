"""Every kind of image and text encoder trains some steps on photographs, and its tower goes into a LLaVA that answers."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from scored_question import letter_scores
from transformers import (
    AutoModel,
    CLIPVisionConfig,
    Dinov2Config,
    PretrainedConfig,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
)

from mgll.images.preprocessing import Preprocessing, open_image
from mgll.manifest.records import read_manifest, write_manifest
from mgll.readers.fundus_folder import read_fundus_folder
from mgll.settings import PretrainSettings
from mgll.synthetic import generate
from mgll.tower.file import load_tower, read_header
from mgll.training.pretraining import pretrain
from mllm_adapters.contract.graft_record import read_graft
from mllm_adapters.demo.host import build_demo_host, save_random_tower
from mllm_adapters.encoder_check import check_encoder, one_batch

sys.path.append(str(Path(__file__).parents[1] / "mgll"))
from tiny_text_models import bert, clip, llama

SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SHAPE |= {"image_size": 32, "patch_size": 8}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 20]}
SWIN = {"depths": [1, 1, 1, 1], "embed_dim": 8, "num_heads": [1, 1, 2, 2], "window_size": 2}
#: encoder, its options, image size, pooling, tokens in a LLaVA
ENCODERS: dict[str, tuple[str, dict[str, Any], int, str, int]] = {
    "clip": ("vit-nano-16", {"hidden_act": "quick_gelu"}, 32, "cls", 4),
    "convnext": ("convnext-base", CONVNEXT, 64, "head", 4),
    "timm, no class token": ("timm:vit_base_patch16_siglip_224", VIT, 32, "mean", 16),
    "timm, batch norms": ("timm:resnet10t", {"channels": [4, 8, 12, 16]}, 64, "mean", 4),
    "timm, windows": ("timm:swin_tiny_patch4_window7_224", SWIN, 64, "mean", 4),
    "open_clip": ("open_clip:tiny", {}, 32, "cls", 16),
    "transformers, clip": ("hf:", {}, 32, "cls", 16),
    "transformers, siglip": ("hf:", {}, 32, "head", 16),
    "transformers, dinov2": ("hf:", {}, 32, "cls", 16),
    "transformers, vit": ("hf:", {}, 32, "cls", 16),
}
FOLDERS: dict[str, PretrainedConfig] = {
    "clip": CLIPVisionConfig(**SHAPE),
    "siglip": SiglipVisionConfig(**SHAPE),
    "dinov2": Dinov2Config(**SHAPE),
    "vit": ViTConfig(**SHAPE),
}
IN_TRANSFORMERS = ("clip", "open_clip", "transformers, clip", "transformers, siglip")
TEXTS = {"bert": bert, "clip": clip, "llama": llama}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> PretrainSettings:
    """On real photographs where they are, else on synthetic ones."""
    folder = tmp_path_factory.mktemp("manifest")
    try:
        write_manifest(folder / "manifest.jsonl", read_fundus_folder(request.getfixturevalue("fundus_folder"))[0])
        manifest = folder / "manifest.jsonl"
    except pytest.skip.Exception:
        manifest = generate(folder, 24, seed=0)
    chosen: Any = {"encoder": "vit-nano-16", "image_size": 32, "feature_width": 8}
    return PretrainSettings(str(manifest), **chosen, batch_size=6, learning_rate=3e-4)


@pytest.mark.slow_except("timm, no class token")
@pytest.mark.parametrize("name", ENCODERS)
def test_every_image_encoder_goes_from_training_to_an_answer(
    name: str, settings: PretrainSettings, host_directory: Path, photographs: list[Path], tmp_path: Path
) -> None:
    encoder, options, size, pooling, tokens = ENCODERS[name]
    if name == "open_clip":
        vision = '{"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}'
        text = '{"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}'
        (tmp_path / "tiny.json").write_text(f'{{"embed_dim": 8, "vision_cfg": {vision}, "text_cfg": {text}}}')
        open_clip.add_model_config(tmp_path / "tiny.json")
    if encoder == "hf:":
        AutoModel.from_config(FOLDERS[name.split()[-1]]).save_pretrained(tmp_path / "folder")
        encoder = f"hf:{tmp_path / 'folder'}"
    chosen: Any = {"encoder": encoder, "encoder_options": options, "image_size": size, "pooling": pooling}
    found = check_encoder(replace(settings, **chosen, out=str(tmp_path / "run")), 8, host_directory)
    assert found.problems == ()
    assert found.losses[-1] < found.losses[0]
    assert (found.tokens, found.grid**2) == (tokens, tokens)
    graft = tmp_path / "run" / "graft"
    assert read_graft(graft).loads_in == ("transformers" if name in IN_TRANSFORMERS else "mllm_adapters.load")
    letter_scores(graft, open_image(photographs[0]))


@pytest.mark.slow_except("bert-full-auto")
@pytest.mark.parametrize(
    ("kind", "training", "pooling"),
    [
        *((kind, training, "auto") for kind in TEXTS for training in ("frozen", 1, "full")),
        *((kind, "full", pooling) for kind in TEXTS for pooling in ("mean", "last")),
        ("bert", "full", "cls"),
    ],
)
def test_every_text_encoder_goes_from_training_to_an_answer(
    kind: str, training: Any, pooling: Any, settings: PretrainSettings, host_directory: Path, tmp_path: Path
) -> None:
    texts: Any = {"text_encoder": TEXTS[kind](tmp_path / kind), "text_training": training, "text_pooling": pooling}
    found = check_encoder(replace(settings, **texts, out=str(tmp_path / "run")), 8, host_directory)
    assert found.problems == ()
    assert found.losses[-1] < found.losses[0]
    assert (found.text_trained > 0) == (training != "frozen")
    assert found.text_trained < found.text_parameters / 2 or training == "full"


def test_an_encoder_that_learns_nothing_is_found(
    settings: PretrainSettings, host_directory: Path, tmp_path: Path
) -> None:
    texts: Any = {"text_encoder": bert(tmp_path / "bert"), "text_training": 1}
    run = replace(settings, **texts, learning_rate=0.0, out=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="steps 1: it takes two or more"):
        check_encoder(run, 1, host_directory)
    found = check_encoder(run, 2, host_directory)
    assert len(found.problems) == 3  # the losses, and one for each encoder
    assert found.problems[0].startswith("losses [")
    assert all(re.match(r"(\d+) of \1 trained tensors did not move: ", problem) for problem in found.problems[1:])


def test_a_batch_has_as_many_texts_as_it_can(settings: PretrainSettings) -> None:
    chosen = one_batch(str(settings.manifest), 6)
    assert len({record.caption for record in chosen}) == len({record.image for record in chosen}) == 6
    there = len(read_manifest(str(settings.manifest), split="train"))
    with pytest.raises(ValueError, match=f"has {there} training images, fewer than one batch of {there + 1}"):
        one_batch(str(settings.manifest), there + 1)


def test_a_manifest_named_from_its_own_folder_names_its_images_for_another(
    settings: PretrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Path(str(settings.manifest))
    monkeypatch.chdir(manifest.parent)
    assert all(Path(record.image).is_absolute() for record in one_batch(manifest.name, 6))


def test_the_random_tower_of_a_folder_has_none_of_its_weights(tmp_path: Path) -> None:
    model = SiglipVisionModel(SiglipVisionConfig(**SHAPE))
    model.save_pretrained(tmp_path / "siglip")
    save_random_tower(tmp_path / "random.ckpt", 0, f"hf:{tmp_path / 'siglip'}", Preprocessing(size=32), "head")
    random, own = load_tower(tmp_path / "random.ckpt")[0].state_dict(), model.state_dict()
    assert random.keys() == own.keys()
    assert not [key for key, tensor in random.items() if tensor.std() > 0 and torch.equal(tensor, own[key])]
    with pytest.raises(ValueError, match="built on a CLIP tower"):
        build_demo_host(tmp_path / "random.ckpt", tmp_path / "host")


@pytest.mark.slow
def test_a_tower_goes_on_where_another_stopped(settings: PretrainSettings, tmp_path: Path) -> None:
    write_manifest(tmp_path / "manifest.jsonl", one_batch(str(settings.manifest), 6))
    run = replace(settings, manifest=str(tmp_path / "manifest.jsonl"), epochs=1)
    first = pretrain(replace(run, out=str(tmp_path / "first")))
    second = pretrain(replace(run, start_weights=str(first), learning_rate=0.0, out=str(tmp_path / "second")))
    one, two = (load_tower(path)[0].state_dict() for path in (first, second))
    assert all(torch.equal(tensor, two[key]) for key, tensor in one.items())
    assert len(read_header(second).origin["start_weights_sha256"]) == 64


@pytest.mark.slow
def test_the_recipe_prints_a_row_for_every_combination(settings: PretrainSettings, tmp_path: Path) -> None:
    recipe = Path(__file__).parents[2] / "recipes" / "check_encoders.py"
    flags = ["--manifest", str(settings.manifest), "--out", str(tmp_path), "--image_sizes", "[32]", "--batch_size", "3"]
    command = [sys.executable, str(recipe), *flags, "--encoders", "[vit-nano-16, vit_nano_16]"]
    done = subprocess.run(command, capture_output=True, text=True)
    table = (tmp_path / "encoders.md").read_text()
    _, _, passed, failed = table.splitlines()
    assert passed.startswith("| vit-nano-16 | 32 | embedded, frozen, auto | 0.2 + 22.7 (0.0 trained) |")
    assert passed.endswith("| 2 x 2 | 4 | passed |")
    assert "**unknown encoder 'vit_nano_16'; did you mean vit-nano-16" in failed
    assert done.returncode == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("tmp")]
