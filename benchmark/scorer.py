"""The one interface through which the benchmark sees a model, and two dummies that keep the benchmark honest."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from PIL import Image

from benchmark.prompts import LETTERS


class Score(NamedTuple):
    """What a model says about one question.

    Attributes:
        log_probs: natural-log probabilities of the letters A to D as asked, renormalised over the four.
        text: what the model writes at the answer slot.
        prompt: the whole prompt as the model got it.
    """

    log_probs: tuple[float, float, float, float]
    text: str
    prompt: str


class Scorer(Protocol):
    """Anything that answers four-option questions about images: a host, a graft, an endpoint, a dummy.

    Attributes:
        name: what reports call it.
        fingerprint: hash of all that decides its answers; the same fingerprint means the same answers.
    """

    name: str
    fingerprint: str

    def score(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[Score]:
        """Score questions (of `benchmark.prompts.question_text`), one image each; RGB images of any size."""
        ...


class ConstantLetter:
    """Answers every question with the same letter: 25 % on cases whose answer positions are balanced."""

    def __init__(self, letter: str) -> None:
        if letter not in LETTERS or len(letter) != 1:
            raise ValueError(f"constant:{letter}: the letter must be one of {', '.join(LETTERS)}")
        self._letter = letter
        self.name = f"constant:{letter}"
        self.fingerprint = hashlib.sha256(self.name.encode()).hexdigest()

    def score(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[Score]:
        """See `Scorer`."""
        return [Score(_sure_of(LETTERS.index(self._letter)), self._letter, question) for question in questions]


class Oracle:
    """Knows the answers it was given, by the image's pixels and the question; undecided about all others.

    For tests of the chain from cases to report: on its own cases it scores 100 %, on blank images about chance.
    """

    name = "oracle"

    def __init__(self, answers: Mapping[tuple[str, str], int]) -> None:
        self._answers = dict(answers)
        self.fingerprint = hashlib.sha256(repr(sorted(self._answers.items())).encode()).hexdigest()

    def score(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[Score]:
        """See `Scorer`."""
        return [self._score(image, question) for image, question in zip(images, questions, strict=True)]

    def _score(self, image: Image.Image, question: str) -> Score:
        answer = self._answers.get((pixel_hash(image), question))
        log_probs = (-math.log(4),) * 4 if answer is None else _sure_of(answer)
        return Score(log_probs, "" if answer is None else LETTERS[answer], question)


def dummy(spec: str) -> Scorer | None:
    """The dummy that a `--model` value like `constant:A` names; None for anything else.

    Raises:
        ValueError: for `constant:` with something that is no letter from A to D.
    """
    kind, colon, letter = spec.partition(":")
    return ConstantLetter(letter) if kind == "constant" and colon else None


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of an image's size and pixels."""
    return hashlib.sha256(repr((image.size, image.mode)).encode() + image.tobytes()).hexdigest()


def _sure_of(letter: int) -> tuple[float, float, float, float]:
    a, b, c, d = (math.log(0.97 if position == letter else 0.01) for position in range(4))
    return a, b, c, d
