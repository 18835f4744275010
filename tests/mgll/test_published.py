"""Published encoders as tower files: the same features as the original's, every tensor accounted for, nothing run."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from published import CASES, below, clip_model, kad, mgll, openai, other, retfound, timm_model, with_torch
from timm.models.vision_transformer import _RADIO_ALIGN_CORNERS, checkpoint_filter_fn

from mgll.encoders.open_clip_names import tower_names
from mgll.encoders.vision_configs import encoder_config
from mgll.formats import FormatError
from mgll.published.__main__ import main
from mgll.published.conversion import convert
from mgll.published.layouts import LAYOUTS
from mgll.published.radio import KINDS, Kind, kind_of, under_timms_names
from mgll.published.shapes import config_from_tensors
from mgll.tower.file import load_tower, read_header, tower_shapes
from mgll.tower.model import image_feature
from mgll.weights.reading import misfits

IMAGES = ["--mean", "0.5", "0.5", "0.5", "--std", "0.5", "0.5", "0.5", "--resize", "squash"]


@pytest.mark.slow_except("flair", "openai", "timm", "transformers")
@pytest.mark.parametrize("case", CASES)
def test_the_feature_is_that_of_the_original(case: str, tmp_path: Path) -> None:
    build, layout, said = CASES[case]
    path, feature, size = build(tmp_path)
    convert(path, layout, tmp_path / "tower.ckpt", **said)
    model, header = load_tower(tmp_path / "tower.ckpt")
    assert header.preprocessing.size == size
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        found, expected = image_feature(model, pixels, header.pooling), feature(pixels)
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # the image matters
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_naflex_siglip_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "siglip2"}')
    out = tmp_path / "tower.ckpt"
    assert main([str(tmp_path), "--layout", "transformers", "--pooling", "head", "--out", str(out), *IMAGES]) == 1
    said = capsys.readouterr().err.strip()
    assert "of the NaFlex kind" in said
    assert "take one of fixed resolution" in said
    assert "\n" not in said
    assert not out.exists()


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.architecture)
def test_every_c_radio_is_what_timm_makes_of_its_file(kind: Kind) -> None:
    """Tensor by tensor, and found by its shapes."""
    with torch.device("meta"):
        whole = timm.create_model(kind.architecture)
    assert whole.blocks[0].attn.head_dim == kind.head_width
    width, tokens = whole.embed_dim, whole.num_prefix_tokens
    named = {"patch_generator.cls_token.token": torch.zeros(tokens, width)}
    assert kind_of(LAYOUTS["radio"], named) == kind
    generator = torch.Generator().manual_seed(0)
    shapes = {"embedder.weight": (24, 192), "pos_embed": (1, 64, 24), "cls_token.token": (tokens, 24)}
    file = {f"patch_generator.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    tiny = timm.create_model(kind.architecture, img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=1)
    file |= {n.replace(".gamma", ".grandma"): t for n, t in tiny.state_dict().items() if n.startswith("blocks.")}
    options = {"interpolation": "bilinear", "antialias": False, "align_corners": kind.corners}
    expected = checkpoint_filter_fn({f"radio_model.model.{n}": t for n, t in file.items()}, tiny, **options)
    layout = replace(LAYOUTS["radio"], architecture=kind.architecture, size=32)
    found = under_timms_names(layout, file)
    assert found.keys() == expected.keys() == tiny.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert kind.corners == any(name in kind.architecture for name in _RADIO_ALIGN_CORNERS)


def test_another_radio_is_refused_by_what_it_is() -> None:
    with pytest.raises(ValueError, match=r"1408 channels and 8 tokens .* its kinds: vit_base_patch16_radio_v3"):
        kind_of(LAYOUTS["radio"], {"patch_generator.cls_token.token": torch.zeros(8, 1408)})


def test_every_family_is_tried() -> None:
    assert {layout for _, layout, _ in CASES.values()} == set(LAYOUTS)


@pytest.mark.parametrize(
    ("layout", "heads"),
    [
        ("retfound", 16),
        ("retfound-dinov2", 16),
        ("visionfm", 12),
        ("mrm", 12),
        ("biomedclip", 12),
        ("conceptclip", 16),
        ("flair", None),
        ("kad", None),
        ("lvm-med", None),
    ],
)
def test_the_published_size_is_read_off_the_tensors(layout: str, heads: int | None) -> None:
    with torch.device("meta"):
        model = timm.create_model(LAYOUTS[layout].architecture, num_classes=0)
    tensors = below("timm_model.", model.state_dict())
    config, size = config_from_tensors(LAYOUTS[layout], tensors)
    assert size == (model.patch_embed.img_size[0] if heads else LAYOUTS[layout].size)
    assert config["model_args"].get("num_heads") == heads
    assert not misfits(tensors, tower_shapes(config), "the tower wants")


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "name"), [("mgll", "ViT-L-14"), ("ret-clip", "ViT-B-16"), ("chexzero", "ViT-B-32")])
def test_the_published_size_of_a_clip_is_that_of_open_clip(layout: str, name: str) -> None:
    visual = open_clip.create_model(name, device="meta").visual.state_dict()
    found, size = config_from_tensors(LAYOUTS[layout], tower_names(visual))
    assert found == encoder_config(f"open_clip:{name}", size, {"hidden_act": LAYOUTS[layout].hidden_act})


def test_the_tower_says_where_it_comes_from_and_what_was_assumed(tmp_path: Path) -> None:
    path, _, _ = mgll(tmp_path)
    done = convert(path, "mgll", tmp_path / "tower.ckpt", hidden_act="quick_gelu", mean=(0.5, 0.5, 0.5))
    header = read_header(tmp_path / "tower.ckpt")
    assert header == done.header
    assert header.config["hidden_act"] == "quick_gelu"
    assert header.preprocessing.mean == (0.5, 0.5, 0.5)
    assert header.preprocessing.std == (0.229, 0.224, 0.225)
    assert header.origin["layout"] == "mgll"
    assert len(header.origin["files"]["pretrain.pth"]) == 64
    assert header.origin["from_layout"].keys() == done.from_layout.keys() == {"std", "resize", "pooling"}
    assert done.left_out[r"clip\.visual\.proj"] == 1
    assert done.left_out[r"(text_model|text2visual|visual2text|adapter_text|text_linear)\..*"] == 3


def test_the_activation_matters_and_is_the_callers(tmp_path: Path) -> None:
    path, feature, size = mgll(tmp_path)
    convert(path, "mgll", tmp_path / "tower.ckpt", hidden_act="quick_gelu")
    pixels = torch.randn(1, 3, size, size)
    assert (image_feature(load_tower(tmp_path / "tower.ckpt")[0], pixels, "cls") - feature(pixels)).abs().max() > 1e-3


def test_another_size_interpolates_the_positions(tmp_path: Path) -> None:
    path, _, _ = retfound(tmp_path)
    done = convert(path, "retfound", tmp_path / "tower.ckpt", size=64)
    assert (done.header.geometry.grid, done.header.preprocessing.size) == (8, 64)


def damaged(build: Callable[[Path], Any], change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Path]:
    def damage(folder: Path) -> Path:
        path = build(folder)[0]
        content = torch.load(path, weights_only=False)
        change(content)
        return with_torch(path, content)

    return damage


class Own:
    """A class that a file of weights should not need."""


class OwnOpening(torch.nn.Module):
    """A program with a step that runs when its archive is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels

    @torch.jit.export
    def __getstate__(self) -> tuple[int, bool]:
        return self.opened, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[int, bool]) -> None:
        self.opened, self.training = state


def program(folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.script(OwnOpening()).save(folder / "ViT-L-14.pt")
    return folder / "ViT-L-14.pt"


@pytest.mark.parametrize(
    ("build", "layout", "message"),
    [
        (
            damaged(mgll, lambda content: content["model"].update(other("clip.adapter.weight"))),
            "mgll",
            "tensors that this layout does not have: clip.adapter.weight",
        ),
        (
            damaged(mgll, lambda content: content["model"].pop("clip.visual.ln_pre.bias")),
            "mgll",
            "pre_layrnorm.bias is missing",
        ),
        (
            damaged(mgll, lambda content: content["model"].update(other("clip.visual.ln_pre.bias"))),
            "mgll",
            r"pre_layrnorm.bias is \(2,\), the tower wants \(128,\)",
        ),
        (
            damaged(mgll, lambda content: content["model"].update(other("clip.visual.attn_pool.query"))),
            "mgll",
            "attn_pool.query is surplus",
        ),
        (damaged(mgll, lambda content: content.update(args=Own())), "mgll", r"nothing in it was run .*\.Own"),
        (damaged(kad, lambda content: None), "mgll", "no tensor of this layout .clip.visual"),
        (damaged(mgll, lambda content: None), "kad", "no entry image_encoder .* found args, epoch, model"),
        (
            damaged(
                kad,
                lambda content: [
                    content["image_encoder"].pop(name)
                    for name in list(content["image_encoder"])
                    if name.startswith("res_features.7.")
                ],
            ),
            "kad",
            r"layer4",
        ),
        (
            lambda folder: with_torch(folder / "x.pt", {"model": timm_model("vit_base_patch16_224")}),
            "mrm",
            "nothing in it was run",
        ),
        (program, "openai", "code that runs when it is opened"),
        (lambda folder: folder / "none.pt", "mgll", "no such file"),
        (lambda folder: folder, "biomedclip", "none of open_clip_model.safetensors"),
        (lambda folder: folder, "rad-dino", "say --mean, --std, --resize"),
    ],
)
def test_anything_else_is_refused_with_what_it_is(
    build: Callable[[Path], Path], layout: str, message: str, tmp_path: Path
) -> None:
    path = build(tmp_path)
    with pytest.raises(ValueError, match=message):
        convert(path, layout, tmp_path / "tower.ckpt")
    assert not (tmp_path / "tower.ckpt").exists()


@pytest.mark.parametrize(
    ("layout", "settings", "message"),
    [
        ("clop", {}, "unknown layout 'clop'; known: mgll, retfound"),
        ("openai", {"heads": 2}, "unknown settings heads; there are mean"),
        ("kad", {"hidden_act": "gelu"}, "hidden_act is for CLIP's own ViT"),
        ("fg-clip", {"architecture": "vit"}, "config.json says the architecture"),
        ("open_clip", {}, "states hidden_act; say --hidden-act"),
        ("timm", {}, "say --mean, --std, --resize, --pooling, --architecture"),
        ("openai", {"head_width": 48}, "heads of 48 channels do not divide 128"),
        ("openai", {"resize": "stretch"}, "resize"),
    ],
)
def test_settings_are_checked(layout: str, settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    path, _, _ = openai(tmp_path)
    with pytest.raises(ValueError, match=message):
        convert(path, layout, tmp_path / "tower.ckpt", **settings)


def test_an_open_clip_tower_with_other_parts_is_refused(tmp_path: Path) -> None:
    vision = {"layers": 1, "width": 64, "patch_size": 8, "image_size": 32, "ls_init_value": 0.1}
    path = with_torch(tmp_path / "clip.pt", clip_model(vision=vision).state_dict())
    with pytest.raises(FormatError, match=r"ls_1.gamma is surplus"):
        convert(path, "open_clip", tmp_path / "tower.ckpt", hidden_act="gelu")


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _, _ = retfound(tmp_path)
    out = str(tmp_path / "tower.ckpt")
    assert main([str(path), "--layout", "retfound", "--out", out, "--std", "0.2", "0.3", "0.4"]) == 0
    said = "".join(capsys.readouterr())
    assert "4 x 4 tokens of 128 from 32 px" in said
    assert r"left out: 4 like decoder_.*|mask_token" in said
    assert "mean (0.485, 0.456, 0.406)" in said
    assert "std" not in said.split("as the published code has it")[1].split("\n")[0]
    assert "licence: CC BY-NC 4.0" in said
    assert read_header(out).preprocessing.std == (0.2, 0.3, 0.4)
    assert main([str(path), "--layout", "kad", "--out", out]) == 1
    assert "no entry image_encoder" in "".join(capsys.readouterr())


def test_the_list_says_what_is_only_recalled(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{name}: " in f"\n{said}" for name in LAYOUTS)
    assert said.count("UNVERIFIED") == sum(not layout.seen for layout in LAYOUTS.values()) > 0


def test_the_page_has_every_family_as_the_table_does() -> None:
    page = (Path(__file__).parents[2] / "docs" / "towers.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("| `") and not line.startswith("| `--layout`")
    ]
    assert {name.strip("`"): (published, names, licence) for name, published, _, names, licence in rows} == {
        name: (layout.published, "read" if layout.seen else "**unverified**", layout.licence)
        for name, layout in LAYOUTS.items()
    }
