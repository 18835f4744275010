"""Cases in batches: questions about one image together, prompts of like length together, the longest first."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmark.cases.case import Case
from benchmark.cases.images import CaseImages, Shown
from benchmark.predictions.ahead import made_ahead
from benchmark.predictions.file import Prediction, most_probable
from benchmark.replies.parsing import parse_reply
from benchmark.scorers.scorer import Ask, AskError, PreparingScorer, Score, Scorer, View
from benchmark.stats.rotations import as_asked, as_stored
from mgll.images.broken import broken_named_together

#: Prompts about one image that share a pass. Each of them sees the image, whose tokens are read once for all; what they see of each
#: other is hidden by a mask, which grows with the square of their number.
PROMPTS_TOGETHER = 96

#: Case and rotation of a row.
Key = tuple[str, int]
#: Indices of cases that are shown one image.
Group = tuple[int, ...]


@dataclass(frozen=True)
class Asking:
    """How the cases are asked.

    Attributes:
        rotations: in how many orders of the options: the stored one, the four cyclic ones, or all 24.
        views: how the answers are read; the first decides what is `chosen` unless it is `option`.
        images: what the model is shown.
        batch_size: cases a call; a resumed run keeps whole batches only, so it ends in the same bytes.
        workers: threads that prepare the next batch's images while the model is at work; 0: each batch waits for its images.
    """

    rotations: Literal[1, 4, 24] = 1
    views: tuple[View, ...] = ("letter",)
    images: Shown = "own"
    batch_size: int = 8
    workers: int = 2


def in_batches(images: Sequence[str], lengths: Sequence[int], size: int, together: int) -> list[tuple[Group, ...]]:
    """Divide cases into batches of at most `size` cases, each a tuple of groups that are shown one image.

    What is long comes first: if a batch is too much for the memory, it is the first one, and the time that is left is not
    underestimated.

    Args:
        images: what each case is shown, by any name.
        lengths: of each case's prompts, in any unit.
        size: cases a batch, at least 1.
        together: cases a group at most.
    """
    shown: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        shown.setdefault(image, []).append(index)
    most = max(1, min(size, together))
    groups = [tuple(same[first : first + most]) for same in shown.values() for first in range(0, len(same), most)]
    groups.sort(key=lambda group: (-sum(lengths[index] for index in group), group))
    batches: list[list[Group]] = []
    for group in groups:
        if not batches or sum(map(len, batches[-1])) + len(group) > size:
            batches.append([])
        batches[-1].append(group)
    return [tuple(batch) for batch in batches]


class Batches:
    """The cases in batches, which depend on nothing but the cases and how they are asked, and what the model says to one."""

    def __init__(self, cases: Sequence[Case], scorer: Scorer, asking: Asking) -> None:
        self.cases, self.asking = cases, asking
        self._scorer, self._images = scorer, CaseImages(cases, asking.images)
        self._batches = in_batches(
            [self._images.name(index) for index in range(len(cases))],
            [len(case.question) + sum(map(len, case.options)) for case in cases],
            asking.batch_size,
            PROMPTS_TOGETHER // asking.rotations,
        )

    def __len__(self) -> int:
        return len(self._batches)

    def keys(self, batch: int) -> list[Key]:
        """Case and rotation of every row of a batch."""
        return [(self.cases[i].id, rotation) for i in self._of(batch) for rotation in range(self.asking.rotations)]

    def missing(self, rows: Mapping[Key, Prediction]) -> list[int]:
        """Numbers of the batches that are not there as a whole."""
        return [batch for batch in range(len(self)) if not all(key in rows for key in self.keys(batch))]

    def ordered(self, rows: Mapping[Key, Prediction]) -> list[Prediction]:
        """The rows of whole batches in the order of the cases."""
        missing = {key for batch in self.missing(rows) for key in self.keys(batch)}
        keys = [(case.id, rotation) for case in self.cases for rotation in range(self.asking.rotations)]
        return [rows[key] for key in keys if key not in missing]

    def scored(self, numbers: Sequence[int]) -> Iterator[list[Prediction]]:
        """All rows of each of these batches; the images of the next one are prepared while the model is at work.

        Raises:
            ImageError: as `score_cases`.
            ValueError: as `score_cases`.
        """
        groups = [group for number in numbers for group in self._batches[number]]
        prepare = self._prepared if isinstance(self._scorer, PreparingScorer) else self._opened
        ready = made_ahead(prepare, groups, self.asking.workers, self.asking.batch_size)
        try:
            with broken_named_together([case.image for case in self.cases]):
                for number in numbers:
                    yield self._rows(number, [next(ready) for _ in self._batches[number]])
        finally:
            ready.close()

    def faster_attention(self) -> str | None:
        """What the scorer measures on the first batch (`PreparingScorer.faster_attention`); None where there is no choice."""
        if not self._batches or not isinstance(self._scorer, PreparingScorer):
            return None
        return self._scorer.faster_attention(self._prepared(group) for group in self._batches[0])

    def attend(self, attention: str | None) -> None:
        """Score by this attention from now on, where one was chosen."""
        if attention and isinstance(self._scorer, PreparingScorer):
            self._scorer.attention = attention

    def _of(self, batch: int) -> list[int]:
        return [index for group in self._batches[batch] for index in group]

    def _opened(self, group: Group) -> list[Ask]:
        image, rotations = self._images[group[0]], range(self.asking.rotations)
        cases = [self.cases[index] for index in group]
        return [Ask(image, case.question, tuple(as_asked(case.options, r) for r in rotations)) for case in cases]

    def _prepared(self, group: Group) -> Any:
        assert isinstance(self._scorer, PreparingScorer)
        return self._scorer.prepare(self._opened(group))

    def _rows(self, batch: int, ready: Sequence[Any]) -> list[Prediction]:
        """Score one batch, whose groups are opened or prepared, and return its rows."""
        cases, rotations = [self.cases[index] for index in self._of(batch)], range(self.asking.rotations)
        try:
            if isinstance(self._scorer, PreparingScorer):
                scores = self._scorer.score_prepared(ready, self.asking.views)
            else:
                scores = self._scorer.score([ask for group in ready for ask in group], self.asking.views)
        except AskError as error:
            raise ValueError(f"case {cases[error.number].id}: {error}") from error
        for case, found in zip(cases, scores, strict=True):
            for rotation, score in zip(rotations, found, strict=True):
                self._check_finite(case, rotation, score)
        return [
            _prediction(case, rotation, score, "text" in self.asking.views)
            for case, found in zip(cases, scores, strict=True)
            for rotation, score in zip(rotations, found, strict=True)
        ]

    def _check_finite(self, case: Case, rotation: int, score: Score) -> None:
        for what, values in (("letters", score.log_probs), ("options' texts", score.option_log_probs)):
            if values is not None and not all(map(math.isfinite, values)):
                shown = ", ".join(f"{value:.4g}" for value in values)
                raise ValueError(
                    f"{self._scorer.name}, case {case.id}, rotation {rotation}: the log-probabilities of the {what} are not finite"
                    f" ({shown}). The weights hold NaN or infinity, or overflow in their dtype: check the checkpoint, or take"
                    " --dtype float32 or bfloat16, and start again"
                )


def _prediction(case: Case, rotation: int, score: Score, parse: bool) -> Prediction:
    said = parse_reply(score.text, as_asked(case.options, rotation), case.table).choice if parse else None
    said = None if said is None else as_asked(range(4), rotation)[said]
    log_probs = None if score.log_probs is None else as_stored(score.log_probs, rotation)
    most = None if log_probs is None else most_probable(log_probs)
    return Prediction(
        case=case.id,
        rotation=rotation,
        log_probs=log_probs,
        text=score.text,
        said=said,
        option_log_probs=None if score.option_log_probs is None else as_stored(score.option_log_probs, rotation),
        letter_mass=score.letter_mass,
        chosen=said if log_probs is None else most,
        tied=log_probs is not None and most is None,
        answer=case.answer,
        code=case.code,
        group=case.group,
        source=case.source,
        prompt_sha256=hashlib.sha256(score.prompt.encode()).hexdigest(),
    )
