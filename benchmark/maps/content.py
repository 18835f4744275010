"""Which photographs are mapped, and the maps of every tower over them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from mgll.evaluation.classes import classes_of, readable
from mgll.evaluation.evaluation import fitted_probe
from mgll.evaluation.settings import EvaluationSettings
from mgll.evaluation.towers import Tower
from mgll.evaluation.zero_shot import TextReader, class_prompts, text_reader
from mgll.images.decoding import open_square
from mgll.images.preprocessing import Preprocessing, normalise
from mgll.manifest.records import Record
from mgll.tower.file import read_header
from mgll.vocabulary.classes import ClassTable

Score = Literal["probe", "text"]
#: Pixels along the side of a picture.
SIDE = 336


@dataclass(frozen=True)
class TowerMap:
    """One map of one tower over one photograph.

    Attributes:
        tower: what the tower is called.
        name: kind of the map.
        square: the photograph as this tower's rule makes it square, uint8 [SIDE, SIDE, 3].
        values: the map [grid, grid]; None where the tower has none.
        said: what its highest and lowest value are, or why there is no map.
    """

    tower: str
    name: str
    square: np.ndarray
    values: np.ndarray | None
    said: str


@dataclass(frozen=True)
class MappedImage:
    """One photograph with its maps.

    Attributes:
        record: the photograph.
        asked: class code that the maps are about.
        square: it, as the first tower's rule makes it square, uint8 [SIDE, SIDE, 3].
        scores: tower -> what it says of the class, in words.
        maps: by tower, then by kind.
    """

    record: Record
    asked: str
    square: np.ndarray
    scores: dict[str, str]
    maps: tuple[TowerMap, ...]


def chosen_images(
    records: Sequence[Record],
    classes: Sequence[str],
    count: int,
    score: Score,
    settings: EvaluationSettings,
    seed: int = 0,
) -> list[tuple[Record, str]]:
    """Photographs of the split that is read, drawn without looking at them, each with the class that it is asked about.

    Args:
        records: all images of the manifest.
        classes: class codes; `count` photographs of each are drawn. Empty draws from all, and asks each about its first class; for
            the score `probe` from those with a class that a probe can be fitted on and read by.
        count: how many.
        score: what the Grad-CAM explains.
        settings: split, treatment of grades, and what a probe asks for.
        seed: of the draw.

    Raises:
        ValueError: if no photograph of the split has one of the classes.
    """
    if count < 1:
        raise ValueError(f"--images {count}: give 1 or more")
    split = [record for record in records if record.split == settings.split]
    own = [classes_of(record.labels, settings.grades, record.table) for record in split]
    if score == "probe" and not classes:
        train = [classes_of(r.labels, settings.grades, r.table) for r in records if r.split == "train" and r.labels]
        read = [has for has, record in zip(own, split, strict=True) if record.labels]
        probed = readable(train, read, settings.min_train, settings.min_read)[0]
        own = [has & set(probed) for has in own] if probed else own
    rng, found = np.random.default_rng(seed), []
    asked: Sequence[str | None] = classes or [None]
    for code in asked:
        rows = [row for row, has in enumerate(own) if (code in has if code else has)]
        if not rows:
            known = ", ".join(sorted({name for has in own for name in has}))
            raise ValueError(f"no image of split {settings.split!r} has class {code!r}; it has {known or 'none'}")
        if len(rows) < count:
            print(
                f"split {settings.split!r} has {len(rows)} photographs of {code or 'any class'}, {count} were asked for"
            )
        drawn = sorted(rng.permutation(rows)[:count].tolist())
        found += [(split[row], code or min(own[row])) for row in drawn]
    return found


def map_images(
    towers: Sequence[Tower],
    images: Sequence[tuple[Record, str]],
    records: Sequence[Record],
    score: Score,
    settings: EvaluationSettings,
) -> list[MappedImage]:
    """The maps of all towers over all photographs.

    Args:
        towers: the towers.
        images: photographs, each with the class that it is asked about.
        records: all images of the manifest, on whose training images the probe is fitted.
        score: what the Grad-CAM explains: the linear `probe` of the class, or the similarity with its texts (`text`).
        settings: how the probe is fitted, and where the features' cache and the text encoder are.

    Raises:
        ImageError: for a photograph that cannot be read.
        ValueError: if a class has no probe, or, for `text`, a tower no text side.
    """
    first = [_square(record, towers[0].preprocessing) for record, _ in images]
    said: list[dict[str, str]] = [{} for _ in images]
    maps: list[list[TowerMap]] = [[] for _ in images]
    for tower in towers:
        for row, (words, own) in enumerate(_maps_of(tower, images, records, score, settings)):
            said[row][tower.name] = words
            maps[row] += own
    return [
        MappedImage(record, asked, first[row], said[row], tuple(maps[row]))
        for row, (record, asked) in enumerate(images)
    ]


def _maps_of(
    tower: Tower,
    images: Sequence[tuple[Record, str]],
    records: Sequence[Record],
    score: Score,
    settings: EvaluationSettings,
) -> list[tuple[str, list[TowerMap]]]:
    """Of each photograph what the tower says of its class, and its maps."""
    # here, because torch takes seconds to import
    import torch

    from mgll.evaluation.maps import (
        GRAD_CAM,
        MAPS,
        ROLLOUT,
        NoMapError,
        TowerView,
        attention_rollout,
        grad_cam,
        text_similarity,
    )
    from mgll.tower.model import image_feature, measure

    reader, no_text = _reader(tower, settings)
    if score == "text" and reader is None:
        raise ValueError(f"--score text: {no_text}")
    model = tower.load()
    view = TowerView(model, tower.pooling, measure(model, tower.preprocessing.size).grid)
    texts = (
        {asked: torch.from_numpy(reader.points(_texts(asked, settings, record.table))) for record, asked in images}
        if reader
        else {}
    )
    scores = _probe_scores(tower, records, settings) if score == "probe" else _text_scores(reader, texts)
    if without := sorted({asked for _, asked in images} - scores.keys()):
        raise ValueError(
            f"no probe of {', '.join(without)}: too few images to learn from or to read; see --min-train and --min-read"
        )

    def mapped(name: str, pixels: torch.Tensor, asked: str) -> np.ndarray:
        if name == GRAD_CAM:
            return grad_cam(view, pixels, scores[asked])[0]
        if name == ROLLOUT:
            return attention_rollout(view, pixels)[0]
        if reader is None:
            raise NoMapError(no_text)
        return text_similarity(view, pixels, reader.side, texts[asked])[0]

    found = []
    for record, asked in images:
        pixels, square = (
            normalise(open_square(record.image, tower.preprocessing), tower.preprocessing)[None],
            _square(record, tower.preprocessing),
        )
        with torch.no_grad():
            value = scores[asked](image_feature(model, pixels, tower.pooling))[0]
        words = f"cosine {value:.2f}" if score == "text" else f"probability {100 * value.sigmoid():.0f} %"
        own = []
        for name in MAPS:
            try:
                values = mapped(name, pixels, asked)
                own.append(TowerMap(tower.name, name, square, values, _range(values)))
            except NoMapError as error:
                own.append(TowerMap(tower.name, name, square, None, f"none: {error}"))
        found.append((words, own))
    return found


def _range(values: np.ndarray) -> str:
    """From what to what the values of a map go, in words; of an even one, which is blue throughout, that it is even."""
    low, high = float(values.min()), float(values.max())
    return f"{low:.3g} to {high:.3g}" if high > low else f"{low:.3g} everywhere"


def _reader(tower: Tower, settings: EvaluationSettings) -> tuple[TextReader | None, str]:
    """The tower's text side, or why it has none."""
    try:
        if tower.path is None or read_header(tower.path).text_side is None:
            return None, f"{tower.name} brings no text side"
        return text_reader(tower.path, settings.text_encoder), ""
    except (ValueError, OSError) as error:
        return None, str(error)


def _texts(asked: str, settings: EvaluationSettings, table: ClassTable) -> list[str]:
    """The prompts of a class, of all granularities."""
    return list(dict.fromkeys(text for own in class_prompts(asked, settings.grades, table).values() for text in own))


def _probe_scores(tower: Tower, records: Sequence[Record], settings: EvaluationSettings) -> dict[str, Any]:
    """Class code -> function from pooled features [B, width] to the probe's logits [B]."""
    import torch

    probe, classes = fitted_probe(tower, records, settings)
    mean, weights = (
        torch.from_numpy(probe.mean).float(),
        torch.from_numpy(probe.weights / probe.deviation[:, None]).float(),
    )
    return {
        code: partial(lambda pooled, c: (pooled - mean) @ weights[:, c] + float(probe.offsets[c]), c=column)
        for column, code in enumerate(classes)
    }


def _text_scores(reader: TextReader | None, texts: dict[str, Any]) -> dict[str, Any]:
    """Class code -> function from pooled features [B, width] to cosines [B] with the mean of the class's texts."""
    from torch.nn.functional import normalize

    assert reader is not None
    means = {asked: normalize(points.mean(dim=0), dim=0) for asked, points in texts.items()}
    return {
        asked: partial(lambda pooled, mean: reader.side.image_features(pooled) @ mean, mean=mean)
        for asked, mean in means.items()
    }


def _square(record: Record, preprocessing: Preprocessing) -> np.ndarray:
    shown = preprocessing.model_copy(update={"size": SIDE})
    return np.asarray(open_square(record.image, shown).permute(1, 2, 0).numpy())
