"""Encoders inside the checkpoints of other people's trainings: one prefix before all names, or an entry that the layout lacks.

PyTorch Lightning saves a model under the attribute that holds it (`model.`, `net.`, `encoder.`), DistributedDataParallel under
`module.`, torch.compile under `_orig_mod.`, DINO under `student.` and `teacher.`; averaged weights lie in `state_dict_ema`. Here
the one part that holds the layout's tower is found, and its names are given back as the layout has them.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgll.formats import FormatError
from mgll.published.layouts import Layout

#: What trainings put before names, one or several, one after the other.
_WRAPPERS = (
    r"(?:(?:module|_orig_mod|model|net|network|encoder|image_encoder|backbone|student|teacher|visual|model_ema|ema)\.)*"
)
#: A tensor that every tower of a kind has, once the layout's own renames are applied.
_STEMS = {
    "clip": ("class_embedding",),
    "timm_vit": ("patch_embed.proj.weight",),
    "resnet": ("conv1.weight",),
    "timm": ("patch_embed.proj.weight", "conv1.weight", "conv_stem.weight", "stem.0.weight", "stem.conv1.conv.weight"),
    "radio": ("patch_generator.embedder.weight",),
}


@dataclass(frozen=True)
class _Part:
    """Where a tower lies: an entry of the file ("" is the file itself), and what stands before the layout's names in it."""

    entry: str
    prefix: str
    count: int

    def __str__(self) -> str:
        where = " ".join(filter(None, (self.prefix and f"under {self.prefix}", self.entry and f"in {self.entry}")))
        return f"{where or 'at the top'} ({self.count} tensors)"


def unwrapped(path: Path, content: Any, layout: Layout) -> tuple[Any, dict[str, int], str]:
    """A file's content as the layout has it; the content itself where that is so already, or where no part holds such a tower.

    Returns:
        the content, how many tensors beside the part stay behind by what their names begin with, and the part in words ("" where
        nothing had to be unwrapped).

    Raises:
        FormatError: if several parts hold such a tower.
    """
    if not isinstance(content, dict) or not (stems := _STEMS.get(layout.kind)):
        return content, {}, ""
    entries = {"": content} | {str(name): part for name, part in content.items() if isinstance(part, dict)}
    entries = {name: tensors for name, part in entries.items() if (tensors := _tensors(part))}
    parts = [part for name, tensors in entries.items() for part in _parts(name, tensors, layout, stems)]
    own = next((entry for entry in layout.container if not entry or isinstance(content.get(entry), dict)), None)
    if any(part.entry == own and part.prefix in ("", "module.") for part in parts):
        beside = Counter({part.entry: part.count for part in parts if part.entry.endswith("ema") and part.entry != own})
        return content, {f"{entry}: *": count for entry, count in beside.items()}, ""
    if len(parts) > 1:
        raise FormatError(
            path,
            None,
            f"{len(parts)} parts of it may be the encoder: {'; '.join(map(str, parts))}; save the one that you mean by itself",
        )
    if not parts:
        return content, {}, ""
    (part,) = parts
    inside: dict[str, Any] = {}
    beside = Counter[str]()
    for name, tensor in entries[part.entry].items():
        if name.startswith(part.prefix):
            inside[name.removeprefix(part.prefix)] = tensor
        else:
            beside[f"{name.partition('.')[0]}.*"] += 1
    return inside if "" in layout.container else {layout.container[0]: inside}, dict(beside), str(part)


def _parts(entry: str, tensors: dict[str, Any], layout: Layout, stems: tuple[str, ...]) -> list[_Part]:
    """The parts of one entry that hold a tower of the layout."""
    prefixes = []
    for name in tensors:
        wrapped = re.match(_WRAPPERS, name)
        assert wrapped is not None
        # what is a wrapper here may be the layout's own prefix: the shortest that leaves a name of the layout
        words = re.findall(r"[^.]+\.", wrapped.group())
        for count in range(len(words) + 1):
            prefix = "".join(words[:count])
            if _renamed(name.removeprefix(prefix), layout) in stems and prefix not in prefixes:
                prefixes.append(prefix)
                break
    return [_Part(entry, prefix, sum(name.startswith(prefix) for name in tensors)) for prefix in prefixes]


def _renamed(name: str, layout: Layout) -> str | None:
    """The name of a tower's tensor without the layout's prefix and after its renames; None where it does not have that prefix."""
    if not name.startswith(layout.prefix):
        return None
    inner = name.removeprefix(layout.prefix)
    for old, new in layout.renames:
        inner = re.sub(old, new, inner)
    return inner


def _tensors(part: dict[Any, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in part.items() if hasattr(value, "shape")}
