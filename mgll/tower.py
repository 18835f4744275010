"""The tower file (`mgll.ckpt`): vision weights in `CLIPVisionModel` layout, everything else as JSON in the header.

One safetensors file, no pickle. `python -m mgll.tower validate FILE` checks one.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from mgll.files import atomic_path
from mgll.formats import FormatError, Row
from mgll.preprocessing import Preprocessing
from mgll.stored import Stored, read_stored
from mgll.weights import misfits

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import CLIPVisionModel

#: What `CLIPVisionConfig` assumes where nothing is said. Written out, because importing the class takes seconds.
CLIP_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "initializer_factor": 1.0,
}


class TowerHeader(Row):
    """What a tower file says about its weights.

    Attributes:
        schema_: format and version (`schema` in the file).
        config: keyword arguments of `CLIPVisionConfig`, the activation (`hidden_act`) among them.
        preprocessing: how images become the tower's input.
        pooling: which output was trained against texts: `cls` (class token after the last norm, the paper's) or `mean` (mean of
            the patch tokens after the last norm).
        origin: free-form record of where the weights come from (objective, data, config hash, versions).
    """

    schema_: Literal["mgll.tower/1"] = Field(alias="schema")
    config: dict[str, Any]
    preprocessing: Preprocessing
    pooling: Literal["cls", "mean"] = "cls"
    origin: dict[str, Any] = Field(default_factory=dict)


def save_tower(
    path: str | os.PathLike[str],
    model: "CLIPVisionModel",
    preprocessing: Preprocessing,
    pooling: Literal["cls", "mean"] = "cls",
    **origin: Any,
) -> None:
    """Write a tower file atomically."""
    from safetensors.torch import save_file

    config = {
        key: value for key, value in model.config.to_diff_dict().items() if not key.startswith(("_", "transformers"))
    }
    header = TowerHeader(
        schema="mgll.tower/1", config=config, preprocessing=preprocessing, pooling=pooling, origin=origin
    )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        # one entry only: safetensors writes several in an order that changes from run to run
        save_file(tensors, temporary, metadata={"mgll": header.model_dump_json(by_alias=True)})


def read_header(path: str | os.PathLike[str]) -> TowerHeader:
    """Read and check the header of a tower file, without its weights.

    Raises:
        FormatError: if the file is missing, a pickle, cut short, or not a tower.
    """
    if not Path(path).is_file():
        raise FormatError(path, None, "no such tower file")
    with Path(path).open("rb") as file:
        start = file.read(8)
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise FormatError(
            path,
            None,
            "this is a pickle (torch.save), which can run code when opened; a tower is a safetensors file as"
            " recipes/pretrain_mgll.py writes it",
        )
    metadata = read_stored(Path(path))[1]
    if "mgll" not in metadata:
        raise FormatError(path, None, 'a safetensors file without the "mgll" header entry: weights, but not a tower')
    try:
        return TowerHeader.model_validate_json(metadata["mgll"])
    except ValidationError as error:
        raise FormatError(path, None, f"tower header: {error}") from None


def read_tower(path: str | os.PathLike[str]) -> dict[str, Stored]:
    """Where the tower's tensors lie in the file, by their `CLIPVisionModel` names.

    Raises:
        FormatError: as `read_header`, or when tensors are missing, surplus or misshapen for the header's config.
    """
    header = read_header(path)
    found, _ = read_stored(Path(path))
    problems = misfits(found, tower_shapes(header.config), "the config says")
    if problems:
        raise FormatError(path, None, "weights do not fit the header's config: " + "; ".join(problems[:8]))
    return found


def read_tensors(path: str | os.PathLike[str]) -> "dict[str, Tensor]":
    """The tower's tensors by their `CLIPVisionModel` names.

    Raises:
        FormatError: as `read_tower`.
    """
    from safetensors.torch import load_file

    read_tower(path)
    return load_file(path)


def tower_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a `CLIPVisionModel` of this configuration."""
    vision = CLIP_DEFAULTS | config
    width, inner, patch = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    positions = (vision["image_size"] // patch) ** 2 + 1
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, vision["num_channels"], patch, patch),
        "embeddings.position_embedding.weight": (positions, width),
    }
    linears = {f"self_attn.{name}_proj": (width, width) for name in ("q", "k", "v", "out")}
    linears |= {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
    norms = ["pre_layrnorm", "post_layernorm"]
    for i in range(vision["num_hidden_layers"]):
        block = f"encoder.layers.{i}"
        norms += [f"{block}.layer_norm1", f"{block}.layer_norm2"]
        for name, shape in linears.items():
            shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
    return shapes | {f"{norm}.{part}": (width,) for norm in norms for part in ("weight", "bias")}


def load_tower(path: str | os.PathLike[str]) -> "tuple[CLIPVisionModel, TowerHeader]":
    """The tower as a `CLIPVisionModel` in evaluation mode, and its header.

    The model maps pixels [B, 3, size, size] to tokens [B, 1 + (size / patch) ** 2, width].

    Raises:
        FormatError: as `read_tensors`.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModel

    header = read_header(path)
    model = CLIPVisionModel(CLIPVisionConfig(**header.config))
    model.load_state_dict(read_tensors(path), strict=True)
    return model.eval(), header


def pool(tokens: "Tensor", model: "CLIPVisionModel", pooling: Literal["cls", "mean"]) -> "Tensor":
    """The image feature from the last hidden state [B, 1 + patches, width]: [B, width], not normalised."""
    if pooling == "cls":
        return model.post_layernorm(tokens[:, 0])
    return model.post_layernorm(tokens[:, 1:]).mean(dim=1)


def _main(arguments: list[str] | None = None) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="python -m mgll.tower", description=__doc__)
    parser.add_argument("command", choices=["validate", "show"])
    parser.add_argument("file")
    options = parser.parse_args(arguments)
    try:
        tensors = read_tensors(options.file)
    except FormatError as error:
        print(error)
        return 1
    if options.command == "show":
        print(json.dumps(json.loads(read_header(options.file).model_dump_json(by_alias=True)), indent=2))
    print(f"{options.file}: {sum(t.numel() for t in tensors.values()) / 1e6:.1f} M parameters, valid")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
