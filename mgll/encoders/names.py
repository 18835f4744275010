"""The names of encoders, found in a moment: neither timm nor open_clip is imported to see that a name is mistyped."""

import json
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from mgll.plugins import plugins

#: name -> width, depth, heads, patch size in pixels
VITS = MappingProxyType(
    {
        "vit-nano-16": (64, 4, 2, 16),
        "vit-mini-16": (192, 6, 3, 16),
        "vit-tiny-16": (192, 12, 3, 16),
        "vit-small-16": (384, 12, 6, 16),
        "vit-base-16": (768, 12, 12, 16),
        "vit-large-14": (1024, 24, 16, 14),
        "vit-huge-14": (1280, 32, 16, 14),
    }
)
CONVNEXTS = MappingProxyType({"convnext-base": "convnext_base", "convnext-large": "convnext_large"})


def check_encoder_name(name: str) -> None:
    """Look whether there is an encoder of this name: before anything heavy is imported, and any image is read.

    Args:
        name: as in the table of `mgll.encoders.vision`. Whether a folder after `hf:` is one is not asked.

    Raises:
        ValueError: if there is none, with the names that are most like it.
    """
    source, _, inside = name.partition(":")
    if source == "hf" and inside:
        return
    if source == "timm" and inside:
        if inside not in (known := timm_names()):
            raise ValueError(no_model("timm", inside, known))
    elif source == "open_clip" and inside:
        if inside not in (known := open_clip_names()):
            raise ValueError(no_model("open_clip", inside, known))
    elif name not in (known := {*plugins("encoders", (*VITS, *CONVNEXTS)), *VITS, *CONVNEXTS}):
        raise ValueError(no_encoder(name, sorted(known - VITS.keys() - CONVNEXTS.keys())))


def timm_names() -> set[str]:
    """The names of `timm.list_models()`: asked where timm is imported already, else as its source files register them."""
    if timm := sys.modules.get("timm"):
        return set(timm.list_models())
    registered = re.compile(r"^@register_model\b[^\n]*\n(?:@[^\n]*\n)*def (\w+)", re.MULTILINE)
    files = _folder_of("timm", "models").glob("*.py")
    return {name for file in files for name in registered.findall(file.read_text(encoding="utf-8"))}


def open_clip_names() -> set[str]:
    """The names of `open_clip.list_models()`: asked where open_clip is imported already, else read from its package.

    There a model is a file which has an image side and a text side. A process may add models of its own to open_clip,
    so what the library says goes before what its files say.
    """
    if open_clip := sys.modules.get("open_clip"):
        return set(open_clip.list_models())
    files = _folder_of("open_clip", "model_configs").glob("*.json")
    whole = {"embed_dim", "vision_cfg", "text_cfg"}
    return {file.stem for file in files if whole <= json.loads(file.read_text(encoding="utf-8")).keys()}


def _folder_of(package: str, inside: str) -> Path:
    found = find_spec(package)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / inside


def no_model(library: str, name: str, known: Iterable[str]) -> str:
    """What is said where a library has no model of this name."""
    return f"{library} has no model called {name!r}{_like(name, known)}"


def no_encoder(name: str, others: Iterable[str]) -> str:
    """What is said where no encoder has this name; `others` are those of plug-ins."""
    known = [*others, *VITS, *CONVNEXTS, "timm:NAME", "open_clip:NAME", "hf:FOLDER"]
    likely = _like(name, known)
    if name in timm_names():
        likely = f"; did you mean timm:{name}?"
    elif name in open_clip_names():
        likely = f"; did you mean open_clip:{name}?"
    return f"unknown encoder {name!r}{likely}; known: {', '.join(known)}"


def _like(name: str, known: Iterable[str]) -> str:
    """A phrase that suggests known names similar to this one; empty if there are none."""
    close = get_close_matches(name, list(known), 4, 0.7)
    return f"; did you mean {' or '.join(close)}?" if close else ""
