"""A scorer that knows the answers, for tests of the chain from cases to report."""

import hashlib
import math
from collections.abc import Mapping, Sequence

from PIL import Image

from benchmark.scorers.scorer import VIEWS, Ask, Four, Score, View, sure_of
from mgll.vocabulary.questions import LETTERS


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of an image's size and pixels."""
    return hashlib.sha256(repr((image.size, image.mode)).encode() + image.tobytes()).hexdigest()


class Oracle:
    """Knows the answers it was given, by the image's pixels and the wording; undecided about all others.

    On its own cases it scores 100 %, on blank images about chance.
    """

    name = "oracle"
    views: tuple[View, ...] = VIEWS

    def __init__(self, answers: Mapping[tuple[str, str], str]) -> None:
        """Take the true option's text by `pixel_hash` of the image and wording."""
        self._answers = dict(answers)
        self.fingerprint = hashlib.sha256(repr(sorted(self._answers.items())).encode()).hexdigest()

    def score(self, asks: Sequence[Ask], views: Sequence[View]) -> list[list[Score]]:
        """See `Scorer`."""
        return [self._scores(ask, views) for ask in asks]

    def _scores(self, ask: Ask, views: Sequence[View]) -> list[Score]:
        known = self._answers.get((pixel_hash(ask.image), ask.question))
        scores = []
        for options, text in zip(ask.orders, ask.texts, strict=True):
            answer = options.index(known) if known in options else None
            four: Four = (-math.log(4),) * 4 if answer is None else sure_of(answer)
            scores.append(
                Score(
                    four if "letter" in views else None,
                    "" if answer is None else LETTERS[answer],
                    text,
                    four if "option" in views else None,
                )
            )
        return scores
