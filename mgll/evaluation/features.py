"""Features that are computed once: rows of a file, found again by tower, image and preprocessing.

In a cache every tower with one way of preparing images has a folder of its own: `features.json` says whose features they are, and
each process that computed some has a pair of files, `features-0.f32` with one row after another (`features-0.f16` for whole
grids of images) and `images-0.txt` with a line for each row that says whose it is. Both only grow: a killed run loses the
batch it was at, and manifests share what they have in common. An image is known by its path and its file's size and time of change,
so one that has changed is computed again.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mgll.evaluation.towers import Tower
from mgll.files import write_text
from mgll.manifest.image_identity import file_state, image_file
from mgll.run_folder import locked, read_run
from mgll.tower.features import Output, feature_batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Precision = Literal["auto", "float32", "float16", "bfloat16"]
#: Half precision is good where it moves features, on average, by no more than this share of their distance from their mean.
_GOOD = 0.01
_SAID = "features.json"
_LINE = 33  # bytes of a line of `images-N.txt`: 32 hex digits and the line's end


def features_of(
    tower: Tower,
    images: Sequence[str],
    cache: str | os.PathLike[str],
    precision: Precision = "auto",
    batch_size: int = 64,
    together: bool = False,
) -> np.ndarray:
    """Pooled features of images under a tower, in the order of the images: float32 [len(images), width].

    What the cache has is read from it, through a memory map. The rest is computed, on a GPU where there is one, and added to it.

    Args:
        tower: the tower.
        images: paths; one may stand there twice.
        cache: folder of the cache.
        precision: `auto` measures with the first batch on a GPU whether half precision is good, and is float32 on a CPU.
        batch_size: images at once.
        together: all processes of the launcher call this; each computes its share, and all get all features.

    Raises:
        ImageError: for an image that cannot be read; an evaluation never skips one.
        ValueError: if another run computes features of this tower into the same cache.
    """
    return np.stack(_cached(tower, images, cache, precision, batch_size, together, "pooled"))


def grids_of(
    tower: Tower,
    images: Sequence[str],
    cache: str | os.PathLike[str],
    precision: Precision = "auto",
    batch_size: int = 64,
    together: bool = False,
) -> list[np.ndarray]:
    """The grid of each image under a tower, behind its last norm: float16 [grid ** 2, width] each, read through a memory map.

    The arguments, and what is raised, are those of `features_of`. A line says how much of the disk new ones take.
    """
    return _cached(tower, images, cache, precision, batch_size, together, "grid")


def _cached(
    tower: Tower,
    images: Sequence[str],
    cache: str | os.PathLike[str],
    precision: Precision,
    batch_size: int,
    together: bool,
    output: Output,
) -> list[np.ndarray]:
    """A row for each image, from the cache or added to it."""
    folder = Path(cache) / _folder_name(tower, precision, output)
    keys = image_keys(images)
    known = _rows(folder)
    todo = {key: image for key, image in zip(keys, images, strict=True) if key not in known}
    if todo or together:
        _compute(tower, folder, todo, precision, batch_size, together, output)
        known = _rows(folder)
    return [known[key] for key in keys]


def image_keys(images: Sequence[str]) -> list[str]:
    """32 hex digits for each image: of its absolute path, and of the size and time of change of the file that holds it."""
    files = {image: image_file(image) for image in images}
    states = {file: file_state(file) for file in set(files.values())}
    named = (f"{os.path.abspath(image)}\0{states[files[image]]}" for image in images)  # noqa: PTH100 (no Path: it may lie in a shard)
    return [hashlib.blake2b(name.encode(), digest_size=16).hexdigest() for name in named]


def _folder_name(tower: Tower, precision: str, output: Output) -> str:
    what = tower.pooling if output == "pooled" else output
    said = json.dumps([tower.digest, tower.preprocessing.model_dump(), what, precision], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:24]


def _rows(folder: Path) -> dict[str, np.ndarray]:
    """Image -> its row in a memory map, of all that the folder has."""
    if not (folder / _SAID).is_file():
        return {}
    row = _Row.of(folder)
    found: dict[str, np.ndarray] = {}
    for names in sorted(folder.glob("images-*.txt")):
        count = row.whole(names)
        if count:
            rows = np.memmap(row.beside(names), dtype=row.dtype, mode="r", shape=(count, *row.shape)).view(np.ndarray)
            found.update(zip(names.read_text(encoding="ascii").split()[:count], rows, strict=True))
    return found


@dataclass(frozen=True)
class _Row:
    """What is kept of an image: one vector of float32, or the vectors of its grid in float16."""

    shape: tuple[int, ...]

    @classmethod
    def of(cls, folder: Path) -> "_Row":
        said = read_run(folder / _SAID, "features")
        return cls((said["cells"], said["width"]) if said.get("cells") else (said["width"],))

    @property
    def dtype(self) -> np.dtype:
        return np.dtype("<f4" if len(self.shape) == 1 else "<f2")

    def beside(self, names: Path) -> Path:
        """The file of the rows whose names are in this one."""
        return names.with_name(
            names.name.replace("images-", "features-").replace(".txt", f".f{8 * self.dtype.itemsize}")
        )

    def whole(self, names: Path) -> int:
        """How many rows a pair of files holds whole; a kill may have cut the last batch short in either."""
        return min(names.stat().st_size // _LINE, self.beside(names).stat().st_size // self.size)

    @property
    def size(self) -> int:
        """Bytes of a row."""
        return math.prod(self.shape) * self.dtype.itemsize


def _compute(
    tower: Tower,
    folder: Path,
    todo: dict[str, str],
    precision: Precision,
    batch_size: int,
    together: bool,
    output: Output,
) -> None:
    """Compute the features, or this process's share of them, and append them to its own pair of files."""
    # here, because torch takes seconds to import
    from mgll.training.distributed import process_state

    state = process_state()
    process, processes = (state.process_index, state.num_processes) if together else (0, 1)
    wait = state.wait_for_everyone if together else lambda: None
    own = dict(list(todo.items())[process::processes])
    with locked(folder) if todo and not process else nullcontext():
        model = tower.load().to(state.device) if own else None
        if model is not None and not process and not (folder / _SAID).is_file():
            _settle(tower, model, folder, list(own.values())[:batch_size], precision, output)
        wait()
        if output == "grid" and todo and not process:
            size = len(todo) * _Row.of(folder).size / 1e9
            print(f"{tower.name}: grids of {len(todo)} images take {size:.2g} GB of {folder}", flush=True)
        if model is not None:
            _append(tower, model, folder, process, own, batch_size, output)
        wait()


def _append(
    tower: Tower,
    model: "PreTrainedModel",
    folder: Path,
    process: int,
    todo: dict[str, str],
    batch_size: int,
    output: Output,
) -> None:
    import torch

    said, row = read_run(folder / _SAID, "features"), _Row.of(folder)
    names, start, keys = folder / f"images-{process}.txt", 0, list(todo)
    half = None if said["precision"] == "float32" else getattr(torch, said["precision"])
    with row.beside(names).open("ab") as data, names.open("ab") as lines:
        whole = row.whole(names)
        data.truncate(whole * row.size)
        lines.truncate(whole * _LINE)
        images = list(todo.values())
        for rows in feature_batches(
            model, tower.preprocessing, tower.pooling, images, batch_size, half, not process, output
        ):
            with np.errstate(over="ignore"):
                kept = rows.astype(row.dtype)
            if not np.isfinite(kept).all():
                raise ValueError(f"{tower.name}: features are infinite or beyond what {row.dtype} holds")
            data.write(kept.tobytes())
            data.flush()
            lines.write("".join(f"{key}\n" for key in keys[start : start + len(rows)]).encode())
            lines.flush()
            start += len(rows)


def _settle(
    tower: Tower,
    model: "PreTrainedModel",
    folder: Path,
    images: Sequence[str],
    precision: Precision,
    output: Output,
) -> None:
    """Write whose features the folder holds, and the precision in which all of them are computed."""
    import torch

    def first(half: torch.dtype | None) -> np.ndarray:
        batches = feature_batches(model, tower.preprocessing, tower.pooling, images, len(images), half, False, output)
        return np.concatenate(list(batches))

    exact = first(None)
    chosen, why = precision, "asked for"
    if precision == "auto":
        chosen, why = "float32", "no GPU"
        if next(model.parameters()).device.type == "cuda":
            moved = _moved(exact, first(torch.float16))
            chosen = "float16" if moved <= _GOOD else "float32"
            why = f"float16 moves features by {moved:.2%} of their distance from their mean"
    said = {"tower": tower.name, "tower_sha256": tower.digest, "pooling": tower.pooling, "width": exact.shape[-1]}
    said |= {"cells": exact.shape[1]} if output == "grid" else {}
    said |= {"preprocessing": tower.preprocessing.model_dump(), "precision": chosen, "because": why}
    write_text(folder / _SAID, json.dumps(said, indent=2) + "\n")


def _moved(exact: np.ndarray, half: np.ndarray) -> float:
    """How far half precision moves features, as a share of how far they lie from their mean; infinite where it overflows."""
    if not np.isfinite(half).all():
        return float("inf")
    spread = np.linalg.norm(exact - exact.mean(axis=0), axis=-1).mean()
    return float(np.linalg.norm(half - exact, axis=-1).mean() / max(spread, 1e-12))
