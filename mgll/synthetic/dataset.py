"""Write a data set of drawn eyes: JPEG images and a manifest."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from mgll.formats import read_header
from mgll.manifest.masks import Mask, masks_beside, write_masks
from mgll.manifest.records import SCHEMA, Record, Split, read_manifest, write_manifest
from mgll.synthetic.drawing import Laterality, draw_eye, draw_masks
from mgll.synthetic.sampling import class_weights, sample_eye, sample_fellow
from mgll.vocabulary.label_texts import describe_labels

#: Increased whenever the same seed gives other pixels or labels, so that an old folder is not taken for a new one.
VERSION = 2
SPLITS: tuple[tuple[Split, float], ...] = (("train", 0.7), ("val", 0.1), ("test", 0.2))


@dataclass(frozen=True)
class Plan:
    """One eye of the data set before it is drawn.

    Attributes:
        name: file name without ending.
        person: the person, which is the group of the image.
        split: split of the person.
        laterality: left or right.
        labels: class codes of the eye's findings.
        seed: seed of the eye.
        person_seed: seed of what both eyes of the person share.
    """

    name: str
    person: str
    split: Split
    laterality: Laterality
    labels: tuple[str, ...]
    seed: int
    person_seed: int


def generate(
    out: str | os.PathLike[str],
    count: int,
    seed: int,
    size: int = 128,
    *,
    power: float = 0.25,
    workers: int = 1,
    progress: bool = True,
    masks: bool = False,
) -> Path:
    """Write `count` eyes of `count` / 2 persons and their manifest; the same arguments give the same bytes.

    A folder that already holds this very data set is left as it is.

    Args:
        out: folder; gets `images/` and `manifest.jsonl`.
        count: number of images.
        seed: seed of everything random.
        size: height and width of the images in pixels.
        power: how far the classes keep Table 14's frequencies, see `class_weights`.
        workers: processes that draw; the output does not depend on it.
        progress: show a progress bar.
        masks: also write where optic disc and cup are: `masks/` and `manifest.masks.jsonl`.

    Returns:
        The path of the manifest.

    Raises:
        ValueError: for a count or size too small.
        FileExistsError: if the folder holds another data set.
    """
    if count < 1:
        raise ValueError(f"count is {count}; at least one image is needed")
    out = Path(out)
    manifest = out / "manifest.jsonl"
    header = {"generator": VERSION, "count": count, "seed": seed, "size": size, "power": power}
    plans = list(plan(count, seed, class_weights(power)))
    if manifest.exists():
        _existing(manifest, header)
        if masks and not masks_beside(manifest).exists():
            _write_masks(out, plans, size)
        return manifest
    (out / "images").mkdir(parents=True, exist_ok=True)
    draw = partial(_draw, folder=out / "images", size=size)
    bar = partial(tqdm, total=count, desc="drawing eyes", unit="eye", disable=not progress)
    if workers > 1:
        # Spawned, not forked: the caller may hold threads (torch does).
        with ProcessPoolExecutor(min(workers, count), mp_context=get_context("spawn")) as pool:
            records = list(bar(pool.map(draw, plans, chunksize=16)))
    else:
        records = list(bar(map(draw, plans)))
    write_manifest(manifest, records, **header)
    if masks:
        _write_masks(out, plans, size)
    return manifest


def plan(count: int, seed: int, weights: Mapping[str, float]) -> Iterator[Plan]:
    """Plan the eyes of a data set: persons, splits and labels.

    First eyes take their main class by systematic sampling and persons their split along the same order, so that every class
    has its share in the data and in each split even when the data set is small.
    """
    persons = (count + 1) // 2
    rng = np.random.default_rng([seed, 0])
    edges = np.cumsum(list(weights.values()))
    quota = np.searchsorted(edges / edges[-1], (np.arange(persons) + rng.random()) / persons)
    # Steps of the golden ratio spread each class evenly over the splits.
    share = (rng.random() + np.arange(persons) * 0.6180339887498949) % 1
    splits = np.searchsorted(np.cumsum([part for _, part in SPLITS])[:-1], share, side="right")
    order = rng.permutation(persons)
    codes = list(weights)
    for number, index in enumerate(order):
        main = codes[min(quota[index], len(codes) - 1)]
        sides: list[Laterality] = ["left", "right"]
        if np.random.default_rng([seed, 1, number]).random() < 0.5:
            sides.reverse()
        for eye, side in enumerate(sides):
            if 2 * number + eye >= count:
                return
            draw = np.random.default_rng([seed, 2, number, eye])
            labels = sample_eye(draw, weights, main if eye == 0 else sample_fellow(draw, main, weights))
            yield Plan(
                name=f"{number:06d}_{side}",
                person=f"synthetic-{seed}-{number:06d}",
                split=SPLITS[splits[index]][0],
                laterality=side,
                labels=labels,
                seed=int(draw.integers(2**62)),
                person_seed=int(np.random.default_rng([seed, 3, number]).integers(2**62)),
            )


def _draw(eye: Plan, folder: Path, size: int) -> Record:
    image = draw_eye(eye.labels, eye.seed, size, laterality=eye.laterality, person=eye.person_seed)
    image.save(folder / f"{eye.name}.jpg", quality=92, subsampling=0)
    return Record(
        image=f"{folder.name}/{eye.name}.jpg",
        split=eye.split,
        group=eye.person,
        texts=describe_labels(eye.labels, complete=True),
        labels=eye.labels,
        source="synthetic",
        licence="Apache-2.0",
    )


def _write_masks(out: Path, plans: list[Plan], size: int) -> None:
    """One picture for each eye, as REFUGE has them: 0 in the cup, 128 in the rim, 255 outside the disc."""
    (out / "masks").mkdir(parents=True, exist_ok=True)
    rows = []
    for eye in plans:
        drawn = draw_masks(eye.labels, eye.seed, size, laterality=eye.laterality, person=eye.person_seed)
        values = np.where(drawn["optic cup"], 0, np.where(drawn["optic disc"], 128, 255)).astype(np.uint8)
        Image.fromarray(values).save(out / "masks" / f"{eye.name}.png")
        named = {"image": f"images/{eye.name}.jpg", "mask": f"masks/{eye.name}.png"}
        rows.append(Mask(label="optic disc", values=(0, 128), **named))
        rows.append(Mask(label="optic cup", values=(0,), **named))
    write_masks(masks_beside(out / "manifest.jsonl"), rows)


def _existing(manifest: Path, header: Mapping[str, object]) -> Path:
    found = read_header(manifest, SCHEMA)
    if {key: found.get(key) for key in header} != header:
        raise FileExistsError(f"{manifest} is of another data set ({found}); give another folder, or delete this one")
    missing = [record.image for record in read_manifest(manifest) if not Path(record.image).is_file()]
    if missing:
        raise FileExistsError(
            f"{manifest} is there but {len(missing)} of its images are not; delete it to draw them anew"
        )
    return manifest
