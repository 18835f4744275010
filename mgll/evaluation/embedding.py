"""Features seen from above: images as points in a plane, so that those lie together whose features are alike (t-SNE).

It shows what a tower's features follow, findings or cameras; it measures nothing. Distances between clusters mean little.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from mgll.evaluation.classes import classes_of
from mgll.evaluation.features import features_of
from mgll.evaluation.settings import EvaluationSettings
from mgll.evaluation.towers import Tower
from mgll.files import atomic_path
from mgll.formats import FormatError
from mgll.manifest.records import Record

#: So many images show the shape.
MOST = 800
#: Classes, and sources, that get a colour of their own.
_COLOURS = 7
SEVERAL, OTHER = "several of these", "other"


@dataclass(frozen=True)
class Embedding:
    """Images in a plane.

    Attributes:
        points: places, between 0 and 1 in both directions [n, 2].
        kinds: class of each image: one of the commonest, several of them, or another [n].
        sources: data set of each image [n].
        images: number of images of the split; there are more than points if not all were drawn.
    """

    points: np.ndarray
    kinds: tuple[str, ...]
    sources: tuple[str, ...]
    images: int


def embed(tower: Tower, records: Sequence[Record], settings: EvaluationSettings, most: int = MOST) -> Embedding:
    """The labelled images of `settings.split` in a plane, by scikit-learn's t-SNE of the features at mean 0 and variance 1.

    Args:
        tower: the tower.
        records: all images of the manifest.
        settings: as for `mgll.evaluation.evaluation.evaluate`.
        most: so many images are drawn, the same for every tower.
    """
    # here, because they take a second to import
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    labelled = [record for record in records if record.split == settings.split and record.labels]
    drawn = sorted(labelled, key=lambda record: hashlib.sha256(Path(record.image).name.encode()).digest())[:most]
    images = [record.image for record in drawn]
    features = features_of(
        tower.decoding(settings.decode), images, settings.cache, settings.precision, settings.batch_size
    )
    spread = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    is_varied = bool(np.ptp(features, axis=0).any())
    if len(scaled) > 4 and is_varied:  # t-SNE of a collapsed tower's features, all equal, would crash the process
        width = min(50, *scaled.shape)
        near = PCA(width, random_state=0).fit_transform(scaled)
        perplexity = min(30, (len(near) - 1) / 3)
        scaled = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(near)
    points = np.asarray(scaled[:, :2] if is_varied else np.zeros((len(drawn), 2)), dtype=np.float32)
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - low) / np.where(high > low, high - low, 1)
    return Embedding(points, _kinds(drawn, settings), _sources(drawn), len(labelled))


def _kinds(records: Sequence[Record], settings: EvaluationSettings) -> tuple[str, ...]:
    classes = [classes_of(record.labels, settings.grades, record.table) for record in records]
    common = [code for code, _ in Counter(code for own in classes for code in sorted(own)).most_common(_COLOURS)]
    shown = [[code for code in common if code in own] for own in classes]
    return tuple(own[0] if len(own) == 1 else SEVERAL if own else OTHER for own in shown)


def _sources(records: Sequence[Record]) -> tuple[str, ...]:
    common = dict(Counter(record.source for record in records).most_common(_COLOURS))
    return tuple(record.source or "not named" if record.source in common else OTHER for record in records)


def save_embedding(path: str | os.PathLike[str], found: Embedding) -> None:
    """Write it atomically as an `.npz` without pickles."""
    kinds, sources = np.array(found.kinds), np.array(found.sources)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, points=found.points, images=np.array(found.images), kinds=kinds, sources=sources)


def load_embedding(path: str | os.PathLike[str]) -> Embedding:
    """Read what `save_embedding` wrote.

    Raises:
        FormatError: if the file is missing, cut short, or something else.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            kinds, sources = (tuple(map(str, file[name])) for name in ("kinds", "sources"))
            return Embedding(file["points"], kinds, sources, int(file["images"]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise FormatError(
            path, None, f"not places of images as recipes/evaluate_tower.py writes them ({error})"
        ) from None
