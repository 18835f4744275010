"""Start weights of an image encoder from local files: a tower file, a folder of transformers, open_clip, OpenAI's CLIP, timm.

Either every tensor of the encoder comes from the file or none does. The text side of a whole CLIP and the last layer of a
classifier are left out. Learned positions are interpolated where the encoder sees images of another size.
"""

import re
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from mgll.encoders.open_clip_names import is_resnet, tower_names
from mgll.encoders.vision_configs import open_clip_config
from mgll.tower.config import CLIP, TIMM, at_size
from mgll.tower.file import is_tower, read_header, read_tensors
from mgll.tower.model import build_model, config_of
from mgll.tower.positions import POSITION_TABLES, resize_positions
from mgll.weights.model_folder import read_json
from mgll.weights.reading import check_values, file_in, is_torchscript, misfits, read_weights

#: Settings that do not change what a trained model computes, or that can be read off its tensors.
_IDLE = r"image_size|img_size|projection_dim|initializer.*|.*dropout.*|drop.*|.*_drop_rate|global_pool|encoder_stride"

Json = dict[str, Any]


def load_start_weights(model: PreTrainedModel, path: Path) -> None:
    """Overwrite all weights of an encoder with those of a file or folder.

    Raises:
        FormatError: if there is no such file or folder, or it is damaged.
        ValueError: if it holds another model; the message names the settings or tensors that differ.
    """
    tensors, said = _read_folder(path) if path.is_dir() else _read_file(path)
    if differing := _differences(config_of(model), said):
        raise ValueError(
            f"{path} holds another model than the encoder: {'; '.join(differing)}. Choose the encoder that it holds"
        )
    _fill(model, _of_this_model(model, tensors), str(path))


def resized(model: PreTrainedModel, image_size: int) -> PreTrainedModel:
    """The model for images of another size: the same weights, learned positions interpolated.

    Raises:
        ValueError: if tensors other than the positions depend on the size.
    """
    config = config_of(model)
    if at_size(config, image_size) == config:
        return model
    other = build_model(at_size(config, image_size))
    _fill(other, model.state_dict(), f"the model at its own size, not {image_size} px,")
    return other


def _fill(model: PreTrainedModel, tensors: dict[str, Tensor], source: str) -> None:
    check_values(Path(source), tensors)
    expected = model.state_dict()
    for name in expected.keys() & tensors.keys() & set(POSITION_TABLES):
        tensors[name] = _positions(tensors[name], expected[name])
    if problems := misfits(tensors, expected, "the encoder has"):
        more = f"; and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise ValueError(f"{source} does not hold the weights of this encoder: {'; '.join(problems[:6])}{more}")
    model.load_state_dict(tensors, strict=True)


def _positions(table: Tensor, wanted: Tensor) -> Tensor:
    """Position embeddings interpolated to the grid of `wanted`, which they fit if both have as many rows before the grid."""
    if table.shape == wanted.shape or table.shape[-1] != wanted.shape[-1]:
        return table
    return resize_positions(table.float(), int(wanted.shape[-2] ** 0.5))


def _read_folder(folder: Path) -> tuple[dict[str, Tensor], Json]:
    """The tensors in a folder, and what the folder says about the model to which they belong."""
    said = {name: _json(folder / name) for name in ("config.json", "open_clip_config.json")}
    if "model_type" in said["config.json"]:
        # here, because safetensors takes a moment to import
        from mgll.encoders.transformers_folder import read_transformers

        model = read_transformers(folder)
        return model.state_dict(), config_of(model)
    tensors, config = _read_file(file_in(folder))
    if "model_cfg" in said["open_clip_config.json"]:
        config = open_clip_config(said["open_clip_config.json"]["model_cfg"], 224, {})
    elif "architecture" in said["config.json"]:
        config = {"model_type": TIMM, "architecture": said["config.json"]["architecture"]}
    return tensors, config


def _read_file(path: Path) -> tuple[dict[str, Tensor], Json]:
    """The tensors in a file, and what it says about the model to which they belong.

    Only a tower file and OpenAI's archives say more than their tensors do.
    """
    if path.is_file() and is_tower(path):
        return read_tensors(path), read_header(path).config
    tensors = read_weights(path)
    is_openai = is_torchscript(path) and not is_resnet(_below_visual(tensors))
    return tensors, {"model_type": CLIP, "hidden_act": "quick_gelu"} if is_openai else {}


def _json(path: Path) -> Json:
    return read_json(path) if path.is_file() else {}


def _differences(own: Json, said: Json) -> list[str]:
    """A phrase for every setting in which the encoder (`own`) differs from what the file says (`said`)."""
    nested = "model_args"
    pairs = {key: (own.get(key), value) for key, value in said.items() if key != nested}
    if nested in said:
        keys = {*(own.get(nested) or {}), *(said[nested] or {})}
        pairs |= {key: ((own.get(nested) or {}).get(key), (said[nested] or {}).get(key)) for key in keys}
    return [
        f"{key} is {there!r} there, {here!r} here"
        for key, (here, there) in sorted(pairs.items())
        if here != there and not re.fullmatch(_IDLE, key)
    ]


def _of_this_model(model: PreTrainedModel, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the encoder's names: only the image side of a CLIP, and a classifier of timm without its last layer."""
    if visual := _below_visual(tensors):
        return tower_names(visual)
    if any(name.startswith("vision_model.") for name in tensors):
        found = {n.removeprefix("vision_model."): t for n, t in tensors.items() if n.startswith("vision_model.")}
        return {name: tensor for name, tensor in found.items() if not name.endswith("position_ids")}
    trunk = getattr(model, "timm_model", None)
    if trunk is None or any(name.startswith("timm_model.") for name in tensors):
        return tensors
    last = trunk.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{name}." for name in ((last,) if isinstance(last, str) else last))
    return {f"timm_model.{name}": tensor for name, tensor in tensors.items() if not name.startswith(heads)}


def _below_visual(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The image side of a model of open_clip or OpenAI, without the prefix `visual.`; empty for other models."""
    return {name.removeprefix("visual."): t for name, t in tensors.items() if name.startswith("visual.")}
