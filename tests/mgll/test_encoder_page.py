"""docs/your_encoder.md as typed, from top to bottom: hub ids come from a cache in which files with the published names lie."""

import json
import shlex
from pathlib import Path

import pytest
import timm
from published import (
    SIZE,
    below,
    fg_clip,
    moved,
    openai_archive,
    other,
    rad_dino,
    retfound,
    timm_model,
    with_safetensors,
    with_torch,
)
from typed_commands import ROOT, commands

from mgll.__main__ import COMMANDS, main
from mgll.synthetic import generate
from mgll.tower.file import read_header

PAGE = ROOT / "docs" / "your_encoder.md"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMES = {
    place.partition(":")[0].removesuffix(".__main__"): name
    for group in COMMANDS.values()
    for name, (place, _) in group.items()
}


def biomedclip(folder: Path) -> None:
    """As on the hub: open_clip's names around a trunk of timm, and what it is in open_clip_config.json."""
    trunk = below("visual.trunk.", dict(timm_model("vit_base_patch16_224").state_dict()))
    beside = other(
        "visual.head.proj.weight", "text.transformer.embeddings.position_ids", "text.proj.0.weight", "logit_scale"
    )
    with_torch(folder / "open_clip_pytorch_model.bin", trunk | beside)
    vision = {"timm_model_name": "vit_base_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": SIZE}
    seen = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}
    told = {"model_cfg": {"embed_dim": 512, "vision_cfg": vision, "text_cfg": {}}, "preprocess_cfg": seen}
    (folder / "open_clip_config.json").write_text(json.dumps(told), encoding="utf-8")


def retfound_on_the_hub(folder: Path) -> None:
    """One file of weights under a name of its own, and no configuration."""
    retfound(folder)[0].rename(folder / "RETFound_mae_natureCFP.pth")
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n", encoding="utf-8")


def vit_of_timm(folder: Path) -> None:
    model = moved(timm.create_model("vit_tiny_patch16_224", num_classes=0))
    with_safetensors(folder / "model.safetensors", model.state_dict())
    pretrained = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "input_size": [3, 224, 224], "crop_pct": 0.9}
    told = {"architecture": "vit_tiny_patch16_224", "global_pool": "token", "pretrained_cfg": pretrained}
    (folder / "config.json").write_text(json.dumps(told), encoding="utf-8")


HUB = {
    "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224": biomedclip,
    "YukunZhou/RETFound_mae_natureCFP": retfound_on_the_hub,
    "facebook/dinov2-base": rad_dino,
    "openai/clip-vit-large-patch14": fg_clip,
    "timm/vit_tiny_patch16_224.augreg_in21k": vit_of_timm,
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's files, beside a hub's cache."""
    for name, build in HUB.items():
        repository = tmp_path / "cache" / f"models--{name.replace('/', '--')}"
        folder = repository / "snapshots" / COMMIT
        folder.mkdir(parents=True)
        build(folder)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "desk"
    folder.mkdir()
    retfound(folder)
    openai_archive(folder)
    drawn = generate(folder / "eyes", 64, seed=0, size=48, progress=False).read_text(encoding="utf-8")
    (folder / "fundus.jsonl").write_text(drawn.replace('"image":"', '"image":"eyes/'), encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slow
def test_the_page_runs_as_typed(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    typed = commands(PAGE.read_text(encoding="utf-8"))
    assert [name for name in HUB if not any(f" {name} " in line for line in typed)] == []
    for line in typed:
        program, *words = shlex.split(line.replace("DIR_OR_HUB_ID", "demo"))
        module = words.pop(1) if words[0] == "-m" else words[0].removesuffix(".py").replace("/", ".")
        assert program == "python"
        assert main([NAMES[module], *words[1:]]) == 0, f"{line}\n{capfd.readouterr().err}"
        said = capfd.readouterr().out
        assert "--encoder" not in words or "recognised as " in said, line
    towers = {path.name: read_header(path) for path in (desk / "runs" / "towers").iterdir() if path.suffix == ".ckpt"}
    assert towers["facebook--dinov2-base-transformers.ckpt"].preprocessing.std == (0.2, 0.2, 0.1)
    assert towers["timm--vit_tiny_patch16_224.augreg_in21k-timm.ckpt"].preprocessing.size == 224
    assert towers["YukunZhou--RETFound_mae_natureCFP-retfound.ckpt"].pooling == "mean"
    assert read_header(desk / "retfound-squash.ckpt").preprocessing.resize == "squash"
