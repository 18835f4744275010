"""The one interface through which the benchmark sees a model, and a dummy that keeps the benchmark honest."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import numpy as np
from PIL import Image

from mgll.vocabulary.questions import LETTERS, question_text

Four = tuple[float, float, float, float]
Options = tuple[str, str, str, str]

#: Ways to read an answer: the probability of its letter, the words that the model writes, the likelihood of its name.
View = Literal["letter", "text", "option"]
VIEWS: tuple[View, ...] = get_args(View)

#: Longest reply of the text view, in tokens; a letter or an option's name is far shorter.
REPLY_TOKENS = 32


class Ask(NamedTuple):
    """One image and one question about it, in every order of the options in which it is asked.

    Attributes:
        image: RGB, of any size.
        question: the wording alone.
        orders: the four option texts as they get the letters A to D, an order a rotation.
    """

    image: Image.Image
    question: str
    orders: tuple[Options, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that the model is given with the image, one for each order of the options."""
        return tuple(question_text(self.question, options) for options in self.orders)


class Score(NamedTuple):
    """What a model says about one question in one order of its options.

    Attributes:
        log_probs: natural-log probabilities of the letters A to D as asked, renormalised over the four; None without letter view.
        text: what the model writes: its whole greedy reply in the text view, else its most probable token at the answer slot.
        prompt: the whole prompt as the model got it.
        option_log_probs: mean natural-log likelihood a token of each option's text as the answer, in the order asked; None without
            option view.
        letter_mass: probability of the four letters together, of the whole vocabulary; None where the scorer cannot know.
    """

    log_probs: Four | None
    text: str
    prompt: str
    option_log_probs: Four | None = None
    letter_mass: float | None = None


class AskError(ValueError):
    """A question to which a model gives no usable answer.

    Attributes:
        number: index of the question among those that were put in one call.
    """

    def __init__(self, number: int, message: str) -> None:
        self.number = number
        super().__init__(message)


class Scorer(Protocol):
    """Anything that answers four-option questions about images: a host, a graft, an endpoint, a dummy.

    Attributes:
        name: what reports call it.
        fingerprint: hash of all that decides its answers; the same fingerprint means the same answers.
        views: those it can give.
    """

    name: str
    fingerprint: str
    views: tuple[View, ...]

    def score(self, asks: Sequence[Ask], views: Sequence[View]) -> list[list[Score]]:
        """Score questions: for each, a score an order, with the views in `views`, each of which the scorer must offer."""
        ...


@runtime_checkable
class PreparingScorer(Scorer, Protocol):
    """A scorer that can do what needs no model, decoded pixels to tensors above all, apart and ahead of the rest.

    Attributes:
        attention: how prompts about one image share a pass, which decides the last digits of the scores.
    """

    attention: str

    def faster_attention(self, prepared: Iterable[Any]) -> str | None:
        """The `attention` that is faster on these questions, measured; None, and nothing prepared, where there is no choice."""
        ...

    def prepare(self, asks: Sequence[Ask]) -> Any:
        """Make ready what is asked about one image, which all `asks` share; several threads call this at once.

        Returns:
            What `score_prepared` takes; it does not hold the image.
        """
        ...

    def score_prepared(self, prepared: Sequence[Any], views: Sequence[View]) -> list[list[Score]]:
        """Score what was made ready: the scores of `Scorer.score` for all its questions, one after the other."""
        ...


class ConstantLetter:
    """Answers every question with the same letter: 25 % on cases whose answer positions are balanced."""

    views: tuple[View, ...] = ("letter", "text")

    def __init__(self, letter: str) -> None:
        if letter not in LETTERS or len(letter) != 1:
            raise ValueError(f"constant:{letter}: the letter must be one of {', '.join(LETTERS)}")
        self._letter = letter
        self.name = f"constant:{letter}"
        self.fingerprint = hashlib.sha256(self.name.encode()).hexdigest()

    def score(self, asks: Sequence[Ask], views: Sequence[View]) -> list[list[Score]]:
        """See `Scorer`."""
        sure = sure_of(LETTERS.index(self._letter)) if "letter" in views else None
        return [[Score(sure, self._letter, text) for text in ask.texts] for ask in asks]


def dummy(spec: str) -> Scorer | None:
    """The dummy that a `--model` value like `constant:A` names; None for anything else.

    Raises:
        ValueError: for `constant` with something that is no letter from A to D.
    """
    kind, _, letter = spec.partition(":")
    return ConstantLetter(letter) if kind == "constant" else None


def renormalised(values: Iterable[float]) -> Four:
    """Natural-log probabilities of four alternatives relative to one another."""
    logs = np.fromiter(values, dtype=float)
    a, b, c, d = (logs - np.logaddexp.reduce(logs)).tolist()
    return a, b, c, d


def sure_of(letter: int) -> Four:
    """Log-probabilities of four letters of which one, by its index, is as good as certain."""
    a, b, c, d = (math.log(0.97 if position == letter else 0.01) for position in range(4))
    return a, b, c, d
