"""What the files beside published weights say about the images that the tower was given, and about its activation."""

from pathlib import Path
from typing import Any

from mgll.formats import FormatError
from mgll.published.layouts import Kind
from mgll.weights.model_folder import read_json

TRANSFORMERS, OPEN_CLIP = "preprocessor_config.json", "open_clip_config.json"
#: How open_clip makes an image square -> the word for it in `Preprocessing`.
_RESIZE = {"shortest": "crop", "squash": "squash", "longest": "pad"}


def said_beside(path: Path, kind: Kind) -> dict[str, Any]:
    """The settings of a layout that the files beside the weights state; empty where there are none.

    Args:
        path: the folder, or the file of weights in it.
        kind: what the tower becomes (`mgll.published.layouts.Layout.kind`).

    Raises:
        FormatError: if such a file is damaged, or states something that no tower file can.
    """
    folder = path if path.is_dir() else path.parent
    named = TRANSFORMERS if kind == "transformers" else OPEN_CLIP
    if not (folder / named).is_file():
        return {}
    content = read_json(folder / named)
    try:
        return _transformers(content) if kind == "transformers" else _open_clip(content, kind)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(folder / named, None, f"cannot be followed ({type(error).__name__}: {error})") from None


def _transformers(said: dict[str, Any]) -> dict[str, Any]:
    """What an image processor of transformers does.

    The size is that of the pixels which it makes: the makers run their model at this size. The `image_size` of config.json may be
    that of the position table alone; DINOv2's table is for 518 px, its processor makes 224.
    """
    found: dict[str, Any] = {}
    if "image_mean" in said and "image_std" in said:
        found = {"mean": tuple(said["image_mean"]), "std": tuple(said["image_std"])}
        found["resize"] = "crop" if said.get("do_center_crop") else "squash"
    if said.get("do_normalize") is False:
        found |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    if abs(said.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-3:
        raise ValueError(f"rescale_factor is {said['rescale_factor']}, a tower's pixels are divided by 255")
    size = said.get("crop_size") if said.get("do_center_crop") else said.get("size")
    if side := _side(size):
        found["size"] = side
    return found


def _side(size: Any) -> int | None:
    if not isinstance(size, dict):
        return int(size) if size else None
    if "height" in size and size["height"] != size["width"]:
        raise ValueError(f"images of {size['height']} x {size['width']}, a tower's are square")
    found = size.get("height", size.get("shortest_edge"))
    return int(found) if found else None


def _open_clip(content: dict[str, Any], kind: Kind) -> dict[str, Any]:
    said, model = content.get("preprocess_cfg") or {}, content.get("model_cfg") or {}
    found: dict[str, Any] = {name: tuple(said[name]) for name in ("mean", "std") if said.get(name)}
    if mode := said.get("resize_mode"):
        found["resize"] = _RESIZE[mode]
    if kind == "clip" and model:
        found["hidden_act"] = "quick_gelu" if model.get("quick_gelu") else "gelu"
        if width := (model.get("vision_cfg") or {}).get("head_width"):
            found["head_width"] = int(width)
    return found
