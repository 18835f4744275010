"""Zero-shot reading by class names, and retrieval of images and texts, with the text side that a tower file brings along.

A class has prompts of several granularities, as its texts in pretraining had (Table 24): its names, Table 10's explanation, and a
caption that joins both. Each granularity is read alone, and all together. The points of several prompts are averaged.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy

from mgll.evaluation.classes import Grades, classes_of
from mgll.files import content_sha256
from mgll.tower.file import load_text_side
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS
from mgll.vocabulary.label_texts import describe_labels

if TYPE_CHECKING:
    from mgll.encoders.text import TextEncoder
    from mgll.tower.text_side import TextSide

#: The granularity that averages all others.
ENSEMBLE = "all levels"
_CAPTION = "caption"
_RANKS = (1, 5, 10)


@dataclass(frozen=True)
class TextReader:
    """A tower's text side with its text encoder.

    Attributes:
        side: projections and temperature.
        encoder: the text encoder as it was at the end of pretraining.
    """

    side: "TextSide"
    encoder: "TextEncoder"

    def points(self, texts: Sequence[str]) -> np.ndarray:
        """Points of texts in the shared space [len(texts), feature width], L2-normalised."""
        return self.side.text_features(self.encoder.features(list(texts))).numpy()

    def image_points(self, features: np.ndarray) -> np.ndarray:
        """Points of images in the shared space [n, feature width], L2-normalised, of their pooled features [n, width]."""
        import torch

        return self.side.image_features(torch.from_numpy(features)).numpy()


def text_reader(tower: Path, folder: str | None = None) -> TextReader:
    """The text side of a tower file with its text encoder, which is known by its hash.

    Args:
        tower: the tower file.
        folder: where the text encoder lies now; None looks where it lay in pretraining.

    Raises:
        FileNotFoundError: if the text encoder is not there.
        ValueError: if the tower brings no text side, or what is there is another text encoder.
    """
    side = load_text_side(tower)
    if side is None:
        raise ValueError(f"{tower} brings no text side: pretrained before towers did, or not by this program")
    # here, because torch takes seconds to import
    import torch

    from mgll.encoders.text import EMBEDDED, TextEncoder, embedded_text_encoder
    from mgll.weights.reading import misfits

    facts = side.facts
    name = folder or facts.encoder
    place = embedded_text_encoder() if name == EMBEDDED else Path(name)
    if facts.sha256 and not place.is_dir():
        raise FileNotFoundError(f"the text encoder of {tower} is not in {place}; say where it is with --text-encoder")
    if facts.sha256 and content_sha256(place) != facts.sha256:
        raise ValueError(f"{place} holds another text encoder than the one {tower} was trained with: its hash differs")
    encoder = TextEncoder(name, pooling=facts.pooling)
    commit = getattr(encoder.model.config, "_commit_hash", None)
    if facts.commit and commit != facts.commit:
        raise ValueError(f"{name} is at commit {commit} now; {tower} was trained with commit {facts.commit}")
    own, changed = dict(encoder.model.named_parameters()), side.encoder or {}
    if wrong := misfits(changed, {key: own[key] for key in changed if key in own}, "the text encoder has"):
        raise ValueError(f"{tower}: its text side does not fit {name}: {'; '.join(wrong[:6])}")
    with torch.no_grad():
        for key, weight in changed.items():
            own[key].copy_(weight)
    return TextReader(side, encoder)


def class_prompts(code: str, grades: Grades = "fold", table: ClassTable = FUNDUS) -> dict[str, tuple[str, ...]]:
    """Prompts of a class by granularity; of a class that grades were folded into, those of its grades too.

    A class that the class table does not have is prompted by its code alone.
    """
    folded = (other for other in table.classes if other != code and classes_of([other], grades, table) == {code})
    members = [code, *folded]
    found: dict[str, dict[str, None]] = {}
    for member in members:
        known = member in table.classes
        texts = describe_labels([member], table=table) if known else {"disease": (member,)}
        for level, own in texts.items():
            found.setdefault(level, {}).update(
                dict.fromkeys(text for text in own if text not in ("abnormal", "normal"))
            )
        found.setdefault(_CAPTION, {})[", ".join(text for own in texts.values() for text in own)] = None
    return {level: tuple(texts) for level, texts in found.items()}


def zero_shot_scores(
    reader: TextReader,
    features: np.ndarray,
    classes: Sequence[str],
    grades: Grades = "fold",
    table: ClassTable = FUNDUS,
) -> dict[str, np.ndarray]:
    """Logits [n, classes] by granularity: of each class against all others under the trained temperature.

    Args:
        reader: the tower's text side.
        features: pooled features of the images [n, width].
        classes: class codes, at least two.
        grades: whether grades count as what they grade.
        table: the class table, which has the words.
    """
    images = reader.image_points(features)
    means = class_points(reader, classes, grades, table)
    return {level: one_against_rest(images @ mean.T / reader.side.facts.temperature) for level, mean in means.items()}


def class_points(
    reader: TextReader, classes: Sequence[str], grades: Grades = "fold", table: ClassTable = FUNDUS
) -> dict[str, np.ndarray]:
    """Points of the classes' prompts in the shared space [classes, feature width], L2-normalised, by granularity."""
    prompts = {code: class_prompts(code, grades, table) for code in classes}
    texts = list(dict.fromkeys(text for own in prompts.values() for level in own.values() for text in level))
    where = {text: row for row, text in enumerate(texts)}
    points = reader.points(texts)
    levels = list(dict.fromkeys(level for own in prompts.values() for level in own))
    means: dict[str, np.ndarray] = {}
    for level in levels:  # a class without this granularity is prompted by what it has
        rows = [own.get(level) or next(iter(own.values())) for own in prompts.values()]
        means[level] = np.stack([_unit(points[[where[text] for text in own]].mean(axis=0)) for own in rows])
    means[ENSEMBLE] = _unit(np.mean([means[level] for level in levels], axis=0))
    return means


@dataclass(frozen=True)
class Retrieval:
    """How well texts find their images, and images their texts.

    Attributes:
        level: granularity of the texts; `caption` joins all of an image.
        texts: number of different texts.
        images: number of images that have one.
        image_to_text: k -> share of the images with one of their own texts among the k nearest.
        text_to_image: k -> share of the texts with one of their own images among the k nearest.
        median_ranks: median rank of the nearest own text, and of the nearest own image; 1 is best.
    """

    level: str
    texts: int
    images: int
    image_to_text: Mapping[int, float]
    text_to_image: Mapping[int, float]
    median_ranks: tuple[float, float]


def retrieval(reader: TextReader, features: np.ndarray, texts: Sequence[Iterable[str]], level: str) -> Retrieval | None:
    """Retrieval among all given images and all their different texts; None if fewer than two texts differ.

    Args:
        reader: the tower's text side.
        features: pooled features of the images [n, width].
        texts: the texts of each image; one that has none takes no part.
        level: what they are called.
    """
    rows = [row for row, own in enumerate(texts) if own]
    unique = list(dict.fromkeys(text for row in rows for text in texts[row]))
    if len(unique) < 2:
        return None
    column = {text: number for number, text in enumerate(unique)}
    own = np.zeros((len(rows), len(unique)), dtype=bool)
    for number, row in enumerate(rows):
        own[number, [column[text] for text in texts[row]]] = True
    likeness = reader.image_points(features[rows]) @ reader.points(unique).T
    to_text, to_image = _first_ranks(likeness, own), _first_ranks(likeness.T, own.T)
    shares = [{k: float((ranks <= k).mean()) for k in _RANKS} for ranks in (to_text, to_image)]
    medians = float(np.median(to_text)), float(np.median(to_image))
    return Retrieval(level, len(unique), len(rows), shares[0], shares[1], medians)


def _first_ranks(likeness: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Rank of the nearest own entry of each row [n]; what is as near as that counts half before it."""
    best = np.where(own, likeness, -np.inf).max(axis=1, keepdims=True)
    return np.asarray(1 + (likeness > best).sum(axis=1) + ((likeness == best) & ~own).sum(axis=1) / 2)


def one_against_rest(logits: np.ndarray) -> np.ndarray:
    """Log odds [n, classes] of each class under the softmax over all; of a single class, which has no rest, its logits."""
    if logits.shape[1] == 1:
        return np.asarray(logits, dtype=float)
    columns = range(logits.shape[1])
    others = np.stack(
        [scipy.special.logsumexp(np.delete(logits, column, axis=1), axis=1) for column in columns], axis=1
    )
    return np.asarray(logits - others, dtype=float)


def _unit(points: np.ndarray) -> np.ndarray:
    return np.asarray(points / np.linalg.norm(points, axis=-1, keepdims=True))
