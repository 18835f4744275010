"""Published encoders where a tower file is asked for: recognised and converted once, or a question that can be answered."""

from pathlib import Path

import pytest
import timm
import torch
from published import CASES, moved, rad_dino, retfound, with_safetensors

from mgll.formats import FormatError
from mgll.published.recognition import recognise, tower_of
from mgll.tower.file import load_tower, read_header
from mgll.tower.model import image_feature

#: Where the names of the tensors are another layout's too.
ALIKE = {
    "openai": "may be chexzero or openai",
    "chexzero": "may be chexzero or openai",
    "kad": "may be kad or unichest",
    "unichest": "may be kad or unichest",
    "biomedclip": "may be biomedclip or conceptclip or open_clip-timm",
    "open_clip-timm": "may be biomedclip or conceptclip or open_clip-timm",
    "retfound, fine-tuned": "is neither",
    "timm": "is neither",
    "pe-core, of timm": "is neither",
}


@pytest.mark.parametrize("case", [case for case in CASES if case != "fg-clip"])
def test_a_family_is_recognised_or_the_user_is_asked(case: str, tmp_path: Path) -> None:
    build, layout, _ = CASES[case]
    path = build(tmp_path)[0]
    if case in ALIKE:
        with pytest.raises(ValueError, match=ALIKE[case]) as refused:
            recognise(path)
        assert "say LAYOUT:FILE" in str(refused.value)
        assert "\n" not in str(refused.value)
    else:
        assert recognise(path)[0] == {"rad-dino": "transformers"}.get(layout, layout)


def test_the_name_of_a_file_tells_what_its_tensors_do_not(tmp_path: Path) -> None:
    path = retfound(tmp_path)[0]
    assert path.name == "RETFound_cfp_weights.pth"
    assert recognise(path)[0] == "retfound"
    with pytest.raises(ValueError, match="is neither a tower file nor"):
        recognise(path.rename(tmp_path / "weights.pth"))


def test_a_folder_is_converted_once_and_what_was_assumed_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dino").mkdir()
    path, feature, size = rad_dino(tmp_path / "dino")
    out = tower_of(path, tmp_path / "towers")
    said = capsys.readouterr().out
    assert f"{path}: recognised as transformers" in said
    assert "chosen for it: pooling cls" in said
    assert "the files say: mean [0.5, 0.4, 0.3]" in said
    model, header = load_tower(out)
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(image_feature(model, pixels, header.pooling), feature(pixels), atol=1e-5, rtol=1e-5)
    made = out.stat().st_mtime_ns
    assert tower_of(path, tmp_path / "towers") == out
    assert out.stat().st_mtime_ns == made
    assert "recognised as transformers" in capsys.readouterr().out
    assert tower_of(out, tmp_path / "towers") == out
    assert capsys.readouterr().out == ""


def test_a_folder_of_timm_says_its_own_settings(tmp_path: Path) -> None:
    model = moved(timm.create_model("test_resnet"))
    with_safetensors(tmp_path / "model.safetensors", model.state_dict())
    (tmp_path / "config.json").write_text(
        '{"architecture": "test_resnet", "global_pool": "avg",'
        ' "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "input_size": [3, 96, 96]}}'
    )
    header = read_header(tower_of(tmp_path, tmp_path / "towers"))
    assert (header.preprocessing.size, header.preprocessing.std, header.pooling) == (96, (0.2, 0.2, 0.2), "mean")


def test_a_folder_of_transformers_may_be_named_as_pretraining_names_it(tmp_path: Path) -> None:
    folder = rad_dino(tmp_path)[0]
    assert tower_of(f"hf:{folder}", tmp_path / "towers") == tower_of(folder, tmp_path / "towers")
    with pytest.raises(FormatError, match="nothing: no such"):
        tower_of(f"hf:{tmp_path / 'nothing'}", tmp_path / "towers")


def test_what_is_no_encoder_is_refused_in_one_line(tmp_path: Path) -> None:
    with_safetensors(tmp_path / "some.safetensors", {"a": torch.ones(2)})
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.ckpt").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    for name, message in (
        ("some.safetensors", "neither a tower file nor a published encoder"),
        ("empty", "none of .* in it"),
        ("none.pt", "no such"),
        ("damaged.ckpt", "damaged.ckpt"),
        ("retfound:none.pth", "none.pth: no such file"),
    ):
        said = name if ":" in name else str(tmp_path / name)
        with pytest.raises(ValueError, match=message) as refused:
            tower_of(said, tmp_path / "towers")
        assert "\n" not in str(refused.value)
