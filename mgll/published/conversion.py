"""Published vision encoders as tower files.

    python -m mgll.published --list
    python -m mgll.published RETFound_cfp_weights.pth --layout retfound --out retfound.ckpt
    python -m mgll.published pretrain.pth --layout mgll --out mgll.ckpt --hidden-act quick_gelu

Every tensor of the file is either the tower's or left out by a pattern of its layout (`mgll.published.layouts`); a name that is
neither, and a tensor that the tower wants and the file lacks, is an error. Nothing in a file is run.
"""

import os
import re
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.encoders.open_clip_names import tower_names
from mgll.files import sha256
from mgll.formats import FormatError
from mgll.images.preprocessing import Preprocessing
from mgll.provenance import provenance
from mgll.published.beside import said_beside
from mgll.published.layouts import LAYOUTS, Layout
from mgll.published.radio import kind_of, under_timms_names
from mgll.published.shapes import config_from_tensors, is_pooled_by_fc_norm
from mgll.published.wrapped import unwrapped
from mgll.tower.file import TowerHeader, is_tower, read_header, save_tower
from mgll.weights.reading import check_values, file_in, misfits, read_content, tensors_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


#: Settings of a layout that the caller may replace.
SETTINGS = ("mean", "std", "resize", "size", "pooling", "hidden_act", "architecture", "head_width")
#: How many names of a longer list a message shows.
_SHOWN = 8


@dataclass(frozen=True)
class Conversion:
    """What became of a published file.

    Attributes:
        header: header of the new tower file.
        left_out: pattern of the layout -> how many tensors it kept out of the tower file.
        from_file: the settings that the file, or those beside it, state.
        from_layout: the settings that come from the layout, because neither the file nor the caller states them.
    """

    header: TowerHeader
    left_out: dict[str, int]
    from_file: dict[str, Any]
    from_layout: dict[str, Any]


def convert(source: str | os.PathLike[str], layout: str, out: str | os.PathLike[str], **settings: Any) -> Conversion:
    """Read the tower in a published file or folder, and write it as a tower file.

    Args:
        source: a file that `torch.save` or safetensors wrote, or the folder that holds it.
        layout: family of the file, a name of `LAYOUTS`.
        out: the tower file to write.
        settings: any of `SETTINGS`; they replace those of the layout.

    Raises:
        FormatError: if the file cannot be read without running code, or its tensors are not exactly those of the layout.
        ValueError: for an unknown layout or setting, or a setting that is needed and that neither file, layout nor caller states.
    """
    # here, because torch takes seconds to import
    from mgll.encoders.start_weights import resized
    from mgll.encoders.transformers_folder import read_transformers

    published, path = _published(layout, settings), Path(source)
    target, read = Path(out).resolve(), path.resolve()
    if target == read or (target.parent == read and target.exists() and not is_tower(target)):
        raise FormatError(out, None, "is what is converted, and would be lost; name another file")
    beside = {name: value for name, value in said_beside(path, published.kind).items() if name not in settings}
    used, left_out = replace(published, **beside, **settings), Counter[str]()
    if used.kind == "transformers":
        _check_said(layout, used)
        model = read_transformers(path)
        files = sorted(path.glob("*.safetensors")) or sorted(path.glob("*.bin"))
        size = model.config.image_size
    else:
        files = [file_in(path) if path.is_dir() else path]
        content, beside_it, part = unwrapped(files[0], read_content(files[0]), published)
        left_out.update(beside_it)
        if part:
            print(
                f"{files[0]}: the encoder is what lies {part}; {sum(beside_it.values())} tensors beside it stay behind"
            )
        if told := _told_by_names(files[0], content, used):
            if settings.get("hidden_act", told) != told:
                said = settings["hidden_act"]
                warnings.warn(f"the names of its tensors tell {told}, you say {said}, which is taken", stacklevel=2)
            else:
                used, beside = replace(used, hidden_act=told), beside | {"hidden_act": told}
        _check_said(layout, used)
        tensors = _tower_tensors(files[0], content, used, left_out)
        if used.kind == "radio":
            used, tensors = _of_radio(files[0], used, tensors)
        used = used if "pooling" in settings else _pooled_as_trained(used, tensors)
        model, size = _built(files[0], used, tensors)
    size = settings.get("size") or beside.get("size") or size
    prepared: Any = {name: getattr(used, name) for name in ("mean", "std", "resize")}
    assumed = {
        name: getattr(used, name)
        for name in ("mean", "std", "resize", "pooling", "hidden_act")
        if name not in settings | beside and getattr(published, name) is not None
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
        from_file=beside,
        from_layout=assumed,
        left_out=dict(left_out),
        versions=provenance(),
    )
    return Conversion(read_header(out), dict(left_out), beside, assumed)


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


def _told_by_names(path: Path, content: Any, layout: Layout) -> str | None:
    """The activation that the names of a file's tensors tell; None where they tell nothing."""
    names = tensors_of(path, _contained(path, content, layout)) if layout.told else ()
    return next((act for pattern, act in layout.told if any(re.match(pattern, name) for name in names)), None)


def _tower_tensors(path: Path, content: Any, layout: Layout, left_out: Counter[str]) -> "dict[str, Tensor]":
    """The tower's tensors under the names of a tower file; `left_out` counts the others by the pattern that matches them."""
    found: dict[str, Tensor] = {}
    strange = []
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
    check_values(path, found)
    if layout.kind == "clip":
        return tower_names(found)
    if layout.kind == "radio":
        return found
    return _without_classifier(layout, {f"timm_model.{name}": tensor for name, tensor in found.items()}, left_out)


def _of_radio(path: Path, layout: Layout, tensors: "dict[str, Tensor]") -> "tuple[Layout, dict[str, Tensor]]":
    """The layout of the kind that the file holds, and its tensors as those of a tower file."""
    try:
        kind, found = kind_of(layout, tensors), under_timms_names(layout, tensors)
    except ValueError as error:
        raise FormatError(path, None, str(error)) from None
    told = replace(layout, architecture=kind.architecture, head_width=layout.head_width or kind.head_width)
    return told, {f"timm_model.{name}": tensor for name, tensor in found.items()}


def _contained(path: Path, content: Any, layout: Layout) -> Any:
    """The entry of a file's content that holds the tensors."""
    for entry in layout.container:
        if not entry or (isinstance(content, dict) and isinstance(content.get(entry), dict)):
            return content[entry] if entry else content
    has = _some(sorted(map(str, content))) if isinstance(content, dict) else type(content).__name__
    raise FormatError(path, None, f"no entry {' or '.join(layout.container)} as this layout has it; found {has}")


def _without_classifier(layout: Layout, tensors: "dict[str, Tensor]", left_out: Counter[str]) -> "dict[str, Tensor]":
    """The tensors of a plain timm model without its classifier, whose name timm knows; `left_out` counts the classifier's."""
    if layout.kind != "timm" or layout.prefix:
        return tensors
    import timm

    known = timm.get_pretrained_cfg(str(layout.architecture))
    last = (known.classifier if known else None) or ()
    heads = tuple(f"timm_model.{name}." for name in ((last,) if isinstance(last, str) else last))
    left_out.update(name.removeprefix("timm_model.") for name in tensors if name.startswith(heads))
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(heads)}


def _pooled_as_trained(layout: Layout, tensors: "dict[str, Tensor]") -> Layout:
    return replace(layout, pooling="head") if is_pooled_by_fc_norm(tensors) else layout


def _built(path: Path, layout: Layout, tensors: "dict[str, Tensor]") -> "tuple[PreTrainedModel, int]":
    """The model with its weights, and the side of its images in pixels."""
    from mgll.tower.model import build_model

    try:
        config, size = config_from_tensors(layout, tensors)
        model = build_model(config)
    except ValueError as error:
        raise FormatError(path, None, str(error)) from None
    if problems := misfits(tensors, model.state_dict(), "the tower wants"):
        raise FormatError(path, None, f"not the tensors of this layout's tower: {_some(problems, '; ')}")
    model.load_state_dict(tensors, strict=True)
    return model, size


def _some(names: list[str], separator: str = ", ") -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return separator.join(names[:_SHOWN]) + more
