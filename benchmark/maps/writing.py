"""Maps as one picture (`maps.png`) and one page that loads nothing (`maps.html`)."""

import base64
import io
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmark.maps.content import SIDE, MappedImage, TowerMap
from benchmark.report.number_format import class_name, middle_cut
from mgll.files import atomic_path, write_text

DISCLAIMER = "Research use only, not for diagnosis."
#: Share of a map's colour in the picture.
_COVER = 0.5


def write_maps(out: str | os.PathLike[str], images: Sequence[MappedImage], explained: str) -> Path:
    """Write `maps.png` and `maps.html`; returns the page's path.

    Args:
        out: the folder.
        images: photographs with their maps, all of the same towers.
        explained: what the Grad-CAM explains, a sentence.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "maps.png") as temporary:
        _figure(images).savefig(temporary, format="png", dpi=100)
    write_text(folder / "maps.html", _page(images, explained))
    return folder / "maps.html"


def overlay(square: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A photograph under a map: uint8 [side, side, 3] of a photograph of that shape and a map [grid, grid].

    The map is drawn from its lowest value (blue) to its highest (red), smoothly between places; an even one is blue.
    """
    from matplotlib import colormaps

    low, high = float(values.min()), float(values.max())
    relative = (values - low) / (high - low) if high > low else np.zeros_like(values)
    smooth = Image.fromarray(relative.astype(np.float32)).resize(square.shape[1::-1], Image.Resampling.BICUBIC)
    colours = colormaps["turbo"](np.clip(np.asarray(smooth), 0, 1))[..., :3] * 255
    return np.asarray((1 - _COVER) * square + _COVER * colours, dtype=np.uint8)


def _figure(images: Sequence[MappedImage]) -> Any:
    """A row for each photograph, and a column for each map of each tower that has it."""
    from matplotlib.figure import Figure

    there = [
        number
        for number in range(len(images[0].maps))
        if any(image.maps[number].values is not None for image in images)
    ]
    figure = Figure(figsize=(2.2 * (1 + len(there)), 2.55 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), 1 + len(there), squeeze=False)
    for row, image in enumerate(images):
        for column, axes in enumerate(grid[row]):
            axes.set_axis_off()
            if column == 0:
                axes.imshow(image.square)
                asked, *labels = (class_name(code, image.record.table) for code in (image.asked, *image.record.labels))
                lines = f"asked: {asked}", f"labels: {', '.join(labels) or 'none'}"
                axes.set_title("\n".join(middle_cut(line, 34) for line in lines), fontsize=8)
                continue
            shown = image.maps[there[column - 1]]
            if shown.values is not None:
                axes.imshow(overlay(shown.square, shown.values))
            axes.set_title(f"{shown.tower}: {shown.name}\n{image.scores[shown.tower]}", fontsize=8)
    return figure


def _page(images: Sequence[MappedImage], explained: str) -> str:
    # here, because jinja2 takes a moment to import
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    loader: Any = FunctionLoader(_own_file)
    made = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template("maps.html")
    rows = [
        {
            "photograph": _data(image.square),
            "asked": class_name(image.asked, image.record.table),
            "labels": [class_name(label, image.record.table) for label in image.record.labels],
            "source": image.record.source,
            "name": Path(image.record.image).name,
            "towers": [
                {"name": tower, "score": score, "maps": [_shown(m) for m in image.maps if m.tower == tower]}
                for tower, score in image.scores.items()
            ],
        }
        for image in images
    ]
    css = Markup(_own_file("report.css") + _own_file("maps.css"))  # our own files, unescaped
    return made.render(css=css, disclaimer=DISCLAIMER, explained=explained, rows=rows, side=SIDE)


def _shown(one: TowerMap) -> dict[str, str]:
    picture = "" if one.values is None else _data(overlay(one.square, one.values))
    return {"name": one.name, "said": one.said, "picture": picture}


def _data(picture: np.ndarray) -> str:
    """A picture as the address of itself."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _own_file(name: str) -> str:
    room = "maps" if name.startswith("maps") else "report"
    return (files(f"benchmark.{room}") / "templates" / name).read_text(encoding="utf-8")
