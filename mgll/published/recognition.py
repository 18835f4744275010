"""Which published encoder a file or folder is, so that it can be used where a tower file is asked for.

A layout is recognised where all tensors are its own and something tells it from others: the names before its tensors, the entry
that holds them, or the name of the file. Where several fit equally well, or none, the user has to say `LAYOUT:FILE`.
"""

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from mgll.encoders.names import open_clip_names, timm_names
from mgll.flags import did_you_mean
from mgll.formats import FormatError, check_there
from mgll.published.conversion import convert
from mgll.published.layouts import LAYOUTS, Layout
from mgll.published.wrapped import unwrapped
from mgll.stage import stage
from mgll.tower.file import read_header
from mgll.weights.model_folder import read_json
from mgll.weights.reading import file_in, is_pickle, is_torchscript, read_content, tensors_of

_BY_HAND = (
    "say LAYOUT:FILE (python -m mgll.published --list has the layouts), or convert it with python -m mgll.published"
)
#: Libraries whose models have names, with the hub id of one.
_BY_NAME = {"timm": "timm/vit_base_patch16_224.augreg_in21k", "open_clip": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"}
#: Entries of a file that many training scripts use.
_USUAL = ("", "model", "state_dict")
#: Layouts of a library, whose name in a file's tells nothing of what is in it.
_GENERIC = ("openai", "open_clip", "open_clip-timm", "timm", "transformers")
#: What transformers' own heads read: SigLIP's by attention, the others' the class token.
_POOLED_BY_HEAD = ("siglip", "siglip_vision_model", "siglip2", "siglip2_vision_model")


def tower_of(said: str | os.PathLike[str], folder: Path) -> Path:
    """The tower file that a user names by itself, by `LAYOUT:FILE`, or by a published encoder's file or folder.

    All but the first are converted into `folder`, once for the same bytes; what was recognised and assumed is printed.

    Raises:
        FormatError: if there is no such file, or it is damaged.
        ValueError: if it is no encoder that is recognised; the message says what to type.
    """
    kind, _, inside = str(said).partition(":")
    if kind == "hf" and inside and not Path(said).exists():  # as pretraining's --encoder has a folder of transformers
        return tower_of(inside, folder)
    if kind in LAYOUTS and inside and not Path(said).exists():
        if kind in _BY_NAME and not Path(inside).exists():
            raise ValueError(
                f"{said}: there is no file or folder {inside}, and a name alone brings no weights; give its hub id, such as"
                f" {_BY_NAME[kind]}, or the file or folder that you have"
            )
        source, layout, settings = Path(inside), kind, _said_by_folder(Path(inside), kind)
        check_there(source)
    else:
        source = Path(said)
        if inside and not source.exists() and re.fullmatch(r"[\w-]+", kind):
            known = "python -m mgll.published --list has the layouts"
            raise ValueError(f"{said}: there is no layout {kind}{did_you_mean(kind, list(LAYOUTS))} ({known})")
        try:
            read_header(source)
            return source
        except FormatError as no_tower:
            if not source.exists():
                if library := _library_with(str(said)):
                    raise ValueError(
                        f"{said}: no such tower file, but a model of {library}, whose name alone brings no weights: did you mean"
                        f" {library}:FILE with the file of its weights, or its hub id, such as {_BY_NAME[library]}?"
                    ) from None
                raise
            try:
                layout, settings = recognise(source)
            except ValueError:
                if source.suffix == ".ckpt":  # most likely a damaged tower file
                    raise no_tower from None
                raise
    out = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', _called(source))}-{layout}.ckpt"

    def make() -> None:
        try:
            convert(source, layout, out, **settings)
        except ValueError as error:
            raise ValueError(
                f"{source} is read as {layout}: {error}; python -m mgll.published takes all flags"
            ) from None

    stage(out, {"source": source, "layout": layout, "settings": settings}, make)
    _tell(source, out)
    return out


def recognise(source: Path) -> tuple[str, dict[str, Any]]:
    """The layout of a published file or folder, and the settings that the files beside it say or that its layout leaves open.

    Raises:
        FormatError: if it cannot be read.
        ValueError: if no layout, or more than one, fits.
    """
    if source.is_dir() and (told := _by_folder(source)):
        return told, _said_by_folder(source, told)
    path = file_in(source) if source.is_dir() else source
    content = read_content(path)
    scripted = is_pickle(path) and is_torchscript(path)
    fits: dict[str, tuple[bool, int, int]] = {}
    found_twice: FormatError | None = None
    for name, layout in LAYOUTS.items():
        try:
            inside, _, part = unwrapped(path, content, layout)
        except FormatError as several:
            found_twice = several
            continue
        unused = _unused_patterns(path, inside, layout)
        named = (name not in _GENERIC and _plain(name) in _plain(f"{source.name} {path.name}")) or (
            scripted and name == "openai"
        )
        # what a training wrapped is under an entry that tells nothing of the family
        if unused is not None and (named or (layout.prefix if part else _is_telling(path, content, layout))):
            fits[name] = (not named, -len(layout.prefix), unused)
    if found_twice and not fits:
        raise found_twice
    best = [name for name, rank in fits.items() if rank == min(fits.values())]
    if len(best) != 1:
        found = (
            f"may be {' or '.join(best)}"
            if best
            else "is neither a tower file nor a published encoder that is recognised"
        )
        example = f", here {best[0]}:{source}" if best else ""
        raise ValueError(f"{source} {found}; {_BY_HAND}{example}")
    return best[0], {}


def _library_with(name: str) -> str | None:
    """The library that has a model of this name, a timm tag behind a dot left aside; None where neither has."""
    known = {"timm": (name.partition(".")[0], timm_names), "open_clip": (name, open_clip_names)}
    return next((library for library, (bare, names) in known.items() if bare in names()), None)


def _called(source: Path) -> str:
    """The name of a file or folder; that of the repository for a folder in the hub's cache, which is named by its commit."""
    folder = source.absolute().parent
    return folder.parent.name.removeprefix("models--") if folder.name == "snapshots" else source.resolve().name


def _by_folder(folder: Path) -> str | None:
    """The layout that a folder's own configuration tells; None where it has none."""
    if (folder / "open_clip_config.json").is_file():
        vision = (read_json(folder / "open_clip_config.json").get("model_cfg") or {}).get("vision_cfg") or {}
        if "timm_model_name" not in vision:
            return "open_clip"
        plain = vision["timm_model_name"] == "vit_base_patch16_224" and not vision.get("timm_pool")
        return "biomedclip" if plain else "open_clip-timm"
    if (folder / "config.json").is_file():
        config = read_json(folder / "config.json")
        if config.get("model_type") == "radio":
            return "radio"
        return "timm" if "architecture" in config else "transformers" if "model_type" in config else None
    return None


def _said_by_folder(folder: Path, layout: str) -> dict[str, Any]:
    """Settings that a folder's configuration states and `mgll.published.beside` does not read, or that have to be assumed."""
    if not folder.is_dir():
        return {}
    if layout == "transformers":
        return {"pooling": "head" if read_json(folder / "config.json").get("model_type") in _POOLED_BY_HEAD else "cls"}
    if layout == "open_clip-timm":
        vision = read_json(folder / "open_clip_config.json")["model_cfg"]["vision_cfg"]
        return {"architecture": vision["timm_model_name"], "pooling": "head"}
    if layout == "timm":
        config = read_json(folder / "config.json")
        known = config.get("pretrained_cfg") or {}
        stated = {name: tuple(known[name]) for name in ("mean", "std") if name in known}
        size = {"size": int(known["input_size"][-1])} if "input_size" in known else {}
        pooling = {"token": "cls", "avg": "mean"}.get(config.get("global_pool", ""), "head")
        return {"architecture": config["architecture"], "pooling": pooling, "resize": "crop", **stated, **size}
    return {}


def _unused_patterns(path: Path, content: Any, layout: Layout) -> int | None:
    """How many patterns of other tensors a layout has that this file has no use for; None where a tensor is not the layout's."""
    if layout.kind == "transformers" or not (held := _held(content, layout)):
        return None
    used, own = Counter[str](), 0
    for name in tensors_of(path, held):
        pattern = next((pattern for pattern in layout.dropped if re.fullmatch(pattern, name)), None)
        if pattern is None and not name.startswith(layout.prefix):
            return None
        used.update([pattern] if pattern else [])
        own += pattern is None
    return len(layout.dropped) - len(used) if own else None


def _held(content: Any, layout: Layout) -> dict[str, Any] | None:
    entry = _entry(content, layout)
    if entry is None or not isinstance(content, dict):
        return None
    held = content[entry] if entry else content
    return held if any(hasattr(value, "shape") for value in held.values()) else None


def _entry(content: Any, layout: Layout) -> str | None:
    """The entry that holds the tensors; "" is the file itself."""
    return next(
        (e for e in layout.container if not e or (isinstance(content, dict) and isinstance(content.get(e), dict))), None
    )


def _is_telling(path: Path, content: Any, layout: Layout) -> bool:
    """Whether something but the file's name tells this layout from any other file with a ViT or a ResNet in it."""
    if layout.prefix or _entry(content, layout) not in _USUAL:
        return True
    names = tensors_of(path, _held(content, layout) or {})
    return any(re.search(own, name) for own, _ in layout.renames[1:] for name in names)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _tell(source: Path, out: Path) -> None:
    """Say what the file was taken for, and what was assumed."""
    header = read_header(out)
    origin, seen = header.origin, header.preprocessing
    print(f"{source}: recognised as {origin['layout']} ({LAYOUTS[origin['layout']].published}), as tower file {out}")
    print(f"  images: {seen.size} px, {seen.resize}, mean {seen.mean}, std {seen.std}; feature: {header.pooling}")
    for what, key in (("the files say", "from_file"), ("chosen for it", "settings"), ("assumed", "from_layout")):
        if origin.get(key):
            print(f"  {what}: {', '.join(f'{name} {value}' for name, value in origin[key].items())}")
    if left := origin.get("left_out"):
        print(f"  left out: {', '.join(f'{count} tensors like {pattern}' for pattern, count in left.items())}")
    print(f"  note: {LAYOUTS[origin['layout']].note}; licence: {origin['licence']}")
