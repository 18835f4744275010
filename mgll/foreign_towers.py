"""Published vision encoders as tower files.

    python -m mgll.foreign_towers --list
    python -m mgll.foreign_towers RETFound_cfp_weights.pth --layout retfound --out retfound.ckpt
    python -m mgll.foreign_towers pretrain.pth --layout mgll --out mgll.ckpt --hidden-act quick_gelu

Every tensor of the file is either the tower's or left out by a pattern of its layout (`mgll.foreign_layouts`); a name that is
neither, and a tensor that the tower wants and the file lacks, is an error. Nothing in a file is run.
"""

import argparse
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.foreign_layouts import LAYOUTS, Layout
from mgll.formats import FormatError
from mgll.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from mgll.tower import TowerHeader

#: What the caller may say instead of the layout.
SETTINGS = ("mean", "std", "resize", "size", "pooling", "hidden_act", "architecture", "head_width")
#: Names that are shown of a longer list.
_SHOWN = 8


@dataclass(frozen=True)
class Conversion:
    """What became of a file.

    Attributes:
        header: of the tower file.
        left_out: how many tensors each pattern of the layout kept out of it.
        from_layout: settings that neither the file nor the caller states.
    """

    header: "TowerHeader"
    left_out: dict[str, int]
    from_layout: dict[str, Any]


def convert(source: str | os.PathLike[str], layout: str, out: str | os.PathLike[str], **settings: Any) -> Conversion:
    """Write the tower that lies in a published file or folder as a tower file.

    Args:
        source: what `torch.save` or safetensors wrote, or the folder that holds it.
        layout: its family, a name of `LAYOUTS`.
        out: the tower file.
        settings: any of `SETTINGS`, instead of what the layout has.

    Raises:
        FormatError: if the file cannot be read without running code, or its tensors are not exactly those of the layout.
        ValueError: for an unknown layout or setting, or one that neither file nor layout states and the caller does not either.
    """
    from mgll.files import sha256
    from mgll.provenance import provenance
    from mgll.start_weights import resized
    from mgll.tower import read_header, save_tower
    from mgll.transformers_folder import read_transformers
    from mgll.weights import file_in

    published, path = _published(layout, settings), Path(source)
    used, left_out = replace(published, **settings), Counter[str]()
    if used.kind == "transformers":
        used = _as_the_folder_says(path, used)
        _check_said(layout, used)
        model = read_transformers(path)
        files = sorted(path.glob("*.safetensors")) or sorted(path.glob("*.bin"))
        size = model.config.image_size
    else:
        _check_said(layout, used)
        files = [file_in(path) if path.is_dir() else path]
        tensors = _tower_tensors(files[0], used, left_out)
        used = used if "pooling" in settings else _pooled_as_trained(used, tensors)
        model, size = _built(files[0], used, tensors)
    size = settings.get("size", size)
    prepared: Any = {name: getattr(used, name) for name in ("mean", "std", "resize")}
    assumed = {
        name: getattr(used, name)
        for name in ("mean", "std", "resize", "pooling", "hidden_act")
        if name not in settings and getattr(published, name) is not None
    }
    pooling: Any = used.pooling
    save_tower(
        out,
        resized(model, size),
        Preprocessing(size=size, **prepared),
        pooling,
        layout=layout,
        files={file.name: sha256(file) for file in files},
        licence=published.licence,
        settings=settings,
        from_layout=assumed,
        left_out=dict(left_out),
        versions=provenance(),
    )
    return Conversion(read_header(out), dict(left_out), assumed)


def _published(layout: str, settings: dict[str, Any]) -> Layout:
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; known: {', '.join(LAYOUTS)}")
    if unknown := sorted(settings.keys() - set(SETTINGS)):
        raise ValueError(f"unknown settings {', '.join(unknown)}; there are {', '.join(SETTINGS)}")
    found = LAYOUTS[layout]
    if "hidden_act" in settings and found.kind != "clip":
        raise ValueError(f"layout {layout}: the activation is that of its class; hidden_act is for CLIP's own ViT")
    if {"architecture", "head_width"} & settings.keys() and found.kind == "transformers":
        raise ValueError(f"layout {layout}: config.json says the architecture")
    return found


def _check_said(name: str, layout: Layout) -> None:
    needed = ["mean", "std", "resize", "pooling"]
    needed += {"clip": ["hidden_act"], "timm": ["architecture"]}.get(layout.kind, [])
    if missing := [field for field in needed if getattr(layout, field) is None]:
        flags = ", ".join(f"--{field.replace('_', '-')}" for field in missing)
        raise ValueError(f"layout {name}: neither the file nor its code states {', '.join(missing)}; say {flags}")


def _tower_tensors(path: Path, layout: Layout, left_out: "Counter[str]") -> "dict[str, Tensor]":
    """The tower's tensors under the names of a tower file; counts the others by the pattern that names them."""
    from mgll.open_clip_names import tower_names
    from mgll.weights import read_content, tensors_of

    content, found, strange = read_content(path), {}, []
    for name, tensor in tensors_of(path, _contained(path, content, layout)).items():
        if pattern := next((pattern for pattern in layout.dropped if re.fullmatch(pattern, name)), None):
            left_out[pattern] += 1
        elif name.startswith(layout.prefix):
            inner = name.removeprefix(layout.prefix)
            for old, new in layout.renames:
                inner = re.sub(old, new, inner)
            found[inner] = tensor.float() if tensor.is_floating_point() else tensor
        else:
            strange.append(name)
    if not found:
        raise FormatError(
            path, None, f"no tensor of this layout ({layout.prefix}*); found {_some([*strange, *left_out])}"
        )
    if strange:
        raise FormatError(path, None, f"tensors that this layout does not have: {_some(strange)}")
    if layout.kind == "clip":
        return tower_names(found)
    return _without_classifier(layout, {f"timm_model.{name}": tensor for name, tensor in found.items()}, left_out)


def _contained(path: Path, content: Any, layout: Layout) -> Any:
    """The entry of a file that holds the tensors."""
    for entry in layout.container:
        if not entry or (isinstance(content, dict) and isinstance(content.get(entry), dict)):
            return content[entry] if entry else content
    has = _some(sorted(map(str, content))) if isinstance(content, dict) else type(content).__name__
    raise FormatError(path, None, f"no entry {' or '.join(layout.container)} as this layout has it; found {has}")


def _without_classifier(layout: Layout, tensors: "dict[str, Tensor]", left_out: "Counter[str]") -> "dict[str, Tensor]":
    """Of a file that holds just a model of timm all but the classifier that timm knows it to have."""
    if layout.kind != "timm" or layout.prefix:
        return tensors
    import timm

    known = timm.get_pretrained_cfg(str(layout.architecture))
    last = (known.classifier if known else None) or ()
    heads = tuple(f"timm_model.{name}." for name in ((last,) if isinstance(last, str) else last))
    left_out.update(name.removeprefix("timm_model.") for name in tensors if name.startswith(heads))
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(heads)}


def _pooled_as_trained(layout: Layout, tensors: "dict[str, Tensor]") -> Layout:
    from mgll.foreign_shapes import is_pooled_by_fc_norm

    return replace(layout, pooling="head") if is_pooled_by_fc_norm(tensors) else layout


def _built(path: Path, layout: Layout, tensors: "dict[str, Tensor]") -> "tuple[PreTrainedModel, int]":
    """The model with its weights, and the side of its images."""
    from mgll.foreign_shapes import config_from_tensors
    from mgll.tower_model import build_model
    from mgll.weights import misfits

    try:
        config, size = config_from_tensors(layout, tensors)
        model = build_model(config)
    except ValueError as error:
        raise FormatError(path, None, str(error)) from None
    if problems := misfits(tensors, model.state_dict(), "the tower wants"):
        raise FormatError(path, None, f"not the tensors of this layout's tower: {_some(problems, '; ')}")
    model.load_state_dict(tensors, strict=True)
    return model, size


def _as_the_folder_says(path: Path, layout: Layout) -> Layout:
    """The layout with what preprocessor_config.json says of the images, where the caller says nothing."""
    said_in = path / "preprocessor_config.json"
    said = json.loads(said_in.read_text(encoding="utf-8")) if said_in.is_file() else {}
    if "image_mean" not in said or "image_std" not in said:
        return layout
    resize: Any = "crop" if said.get("do_center_crop") else "squash"
    return replace(
        layout,
        mean=layout.mean or tuple(said["image_mean"]),
        std=layout.std or tuple(said["image_std"]),
        resize=layout.resize or resize,
    )


def _some(names: list[str], separator: str = ", ") -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return separator.join(names[:_SHOWN]) + more


def list_layouts() -> str:
    """The families, one paragraph each."""
    lines = []
    for name, layout in LAYOUTS.items():
        seen = "read in public code" if layout.seen else "UNVERIFIED, recalled or inferred"
        lines += [f"{name}: {layout.published}", f"    layout {seen}; licence: {layout.licence}", f"    {layout.note}"]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m mgll.foreign_towers", description=__doc__.split("\n")[0])
    parser.add_argument("source", nargs="?", help="published file or folder")
    parser.add_argument("--list", action="store_true", help="print the families that there are")
    parser.add_argument("--layout", choices=list(LAYOUTS), help="its family")
    parser.add_argument("--out", help="the tower file to write")
    for name in ("mean", "std"):
        parser.add_argument(f"--{name}", nargs=3, type=float, metavar=("R", "G", "B"), help="of values in 0..1")
    parser.add_argument("--resize", choices=["pad", "squash", "crop"])
    parser.add_argument("--size", type=int, help="side of the image in pixels; position embeddings are interpolated")
    parser.add_argument("--pooling", choices=["cls", "mean", "head"])
    parser.add_argument("--hidden-act", choices=["gelu", "quick_gelu"], help="activation of a CLIP ViT")
    parser.add_argument("--architecture", help="name in timm")
    parser.add_argument("--head-width", type=int, help="channels of an attention head")
    options = parser.parse_args(arguments)
    if options.list:
        print(list_layouts())
        return 0
    if not (options.source and options.layout and options.out):
        parser.error("name a file, --layout and --out, or ask for --list")
    settings = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
    try:
        done = convert(options.source, options.layout, options.out, **settings)
    except ValueError as error:
        print(error)
        return 1
    tokens = done.header.geometry
    print(f"{options.out}: {tokens.grid} x {tokens.grid} tokens of {tokens.width} from {tokens.size} px")
    for pattern, count in done.left_out.items():
        print(f"left out: {count} like {pattern}")
    print(
        "not in the file, as the published code has it: " + ", ".join(f"{k} {v}" for k, v in done.from_layout.items())
    )
    print(f"note: {LAYOUTS[options.layout].note}\nlicence: {LAYOUTS[options.layout].licence}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
