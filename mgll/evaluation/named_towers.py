"""Towers by what a user calls them: tower files, published encoders, folders of transformers, and encoders by name.

| said | what |
|---|---|
| `runs/mgll/mgll.ckpt` | a tower file |
| `LAYOUT:FILE` | a published encoder, `LAYOUT` as `python -m mgll.published --list` has it |
| a published file or folder | recognised by `mgll.published.recognition` |
| `hf:FOLDER` | the vision model in a folder of transformers |
| `timm:NAME`, `open_clip:NAME`, `vit-base-16` | an encoder with random weights; `timm:NAME@FILE` with those of a file |

All but the first are written as tower files once, so that everything after sees tower files only.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mgll.encoders.names import check_encoder_name
from mgll.evaluation.towers import Tower, tower_file
from mgll.files import content_sha256
from mgll.flags import CommandParser
from mgll.images.preprocessing import Preprocessing
from mgll.stage import stage
from mgll.tower.config import Pooling
from mgll.tower.file import save_tower

#: Layouts of files that are also what names of encoders begin with.
_ENCODERS = ("timm", "open_clip")
_IMAGENET: Any = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class NamedEncoders:
    """How encoders are used that bring no tower file, which says it of itself.

    Attributes:
        image_size: side of the input in pixels; None is that of a folder's config.json, or 224.
        resize: `pad` to a square with the mean colour, `squash`, or `crop` the centre.
        pooling: `cls`, `mean` or `head`; None is the class token where there is one, else the mean of the others.
    """

    image_size: int | None = None
    resize: Literal["pad", "squash", "crop"] = "squash"
    pooling: Pooling | None = None


def add_tower_arguments(parser: CommandParser) -> None:
    """Add the towers that a command is given, and the flags of `NamedEncoders`."""
    add = parser.add_argument
    add("towers", nargs="+", metavar="TOWER", help="[NAME=]tower: a file, hf:FOLDER, LAYOUT:FILE or an encoder's name")
    add("--image-size", type=int, help="side in pixels for encoders that bring no tower file")
    add("--resize", default="squash", choices=["pad", "squash", "crop"], help="how those make an image square")
    add("--pooling", choices=["cls", "mean", "head"], help="what of those is read (default: as each was trained)")


def check_names(towers: Sequence[str]) -> None:
    """Look for the names `timm:NAME` and `open_clip:NAME` among towers, before anything heavy is imported.

    Raises:
        ValueError: for a name that the library does not have.
    """
    for said in towers:
        encoder = split_name(said)[1].partition("@")[0]
        kind, _, inside = encoder.partition(":")
        if kind in _ENCODERS and inside and not Path(inside).exists():
            check_encoder_name(encoder)


def find_tower(said: str, folder: Path, encoders: NamedEncoders | None = None) -> Tower:
    """The tower that a user names, called as the user says.

    Args:
        said: `WHAT` or `NAME=WHAT`, `WHAT` as in the table of this module's docstring.
        folder: where tower files are written for encoders that have none; a line says so.
        encoders: how those are used.

    Raises:
        FormatError: if a file is missing or not what it should be.
        ValueError: for an encoder that is not known, or does not fit its image size.
    """
    name, what = split_name(said)
    kind, _, inside = what.partition(":")
    # here, because it takes seconds to import
    from mgll.published.layouts import LAYOUTS

    if Path(what).exists() or (not inside and "@" not in what and Path(what).suffix):
        from mgll.published.recognition import tower_of

        return tower_file(tower_of(what, folder), name)
    encoders = encoders or NamedEncoders()
    out = folder / ("".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in what) + ".ckpt")
    if kind in LAYOUTS and inside and (kind not in _ENCODERS or Path(inside).is_file()):
        from mgll.published.conversion import convert

        settings = {} if encoders.image_size is None else {"size": encoders.image_size}
        made: Callable[[], object] = partial(convert, inside, kind, out, **settings)
        weights: str | None = inside
    else:
        encoder, _, weights = what.partition("@")
        made = partial(_write, encoder, weights or None, out, encoders)
        weights = weights or (inside if kind == "hf" else None)
    made_of = {"what": what, "encoders": encoders, "weights": Path(weights) if weights else None}
    stage(out, made_of, made)
    print(f"{what}: {'random weights, seed 0' if weights is None else 'weights of ' + weights}, as tower file {out}")
    return tower_file(out, name)


def refuse_copies(towers: Sequence[Tower]) -> None:
    """Refuse a tower that stands twice under one name, where it would be counted as another seed.

    Raises:
        ValueError: naming it.
    """
    seen: set[tuple[str, str]] = set()
    for tower in towers:
        if (tower.name, tower.digest) in seen:
            raise ValueError(
                f"{tower.name}: a tower stands twice under one name: copies of a tower are no further seeds"
            )
        seen.add((tower.name, tower.digest))


def split_name(said: str) -> tuple[str, str]:
    """Name and tower of `NAME=WHAT`; the name of a mere `WHAT` is itself, without the usual file name."""
    name, equals, what = said.partition("=")
    if equals and what and "/" not in name:
        return name, what
    path = Path(said)
    return (str(path.parent) if path.name == "mgll.ckpt" and path.parent.name else said), said


def _write(encoder: str, weights: str | None, out: Path, encoders: NamedEncoders) -> None:
    # here, because torch takes seconds to import
    import torch

    from mgll.encoders.vision import vision_encoder
    from mgll.tower.model import measure

    size = encoders.image_size
    mean, std = _IMAGENET
    if encoder.startswith("hf:"):
        folder = Path(encoder.removeprefix("hf:"))
        size = size or _read(folder / "config.json").get("image_size")
        beside = _read(folder / "preprocessor_config.json")
        mean, std = tuple(beside.get("image_mean", mean)), tuple(beside.get("image_std", std))
    elif encoder.startswith("timm:"):
        import timm

        known = timm.get_pretrained_cfg(encoder.removeprefix("timm:"))
        mean, std = (known.mean, known.std) if known else (mean, std)
        size = size or (known.input_size[-1] if known else None)
    torch.manual_seed(0)
    size = size or 224
    model = vision_encoder(encoder, size, weights).eval()
    pooling = encoders.pooling or ("cls" if measure(model, size).class_token else "mean")
    preprocessing = Preprocessing(size=size, mean=mean, std=std, resize=encoders.resize)
    origin: dict[str, Any] = {"encoder": encoder, "weights_sha256": content_sha256(weights) if weights else None}
    save_tower(out, model, preprocessing, pooling, **origin)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
