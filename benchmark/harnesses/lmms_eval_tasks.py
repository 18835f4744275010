"""What our tasks do inside lmms-eval; the YAML files that `python -m benchmark.harnesses.lmms_export` writes name these functions.

A document is a row of our cases, with the path of its image resolved. No reply is ever guessed at: what names no option is wrong.
"""

import ast
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from benchmark.cases.case import Case
from benchmark.cases.images import open_case_image
from benchmark.replies.parsing import parse_reply
from mgll.vocabulary.questions import LETTERS, question_text

Document = Mapping[str, Any]


def image(document: Document) -> list[Image.Image]:
    """The image of a case.

    Raises:
        ImageError: if it is missing, damaged, or not the one that was asked about.
    """
    return [open_case_image(Case.model_validate(dict(document)))]


def question(document: Document) -> str:
    """Wording, lettered options and instruction, as our own scoring puts them to a model."""
    return question_text(document["question"], document["options"])


def answer_letter(document: Document) -> str:
    """The letter of the true option."""
    return LETTERS[document["answer"]]


def score_losses(document: Document, results: Sequence[Any]) -> dict[str, Any]:
    """Metrics of a case whose answer is the choice of the smallest loss; of equals each counts as its expectation.

    Args:
        document: the case.
        results: (loss, greedy) of each choice; models that do not wrap their tuples have them turned into strings by lmms-eval.

    Raises:
        ValueError: if a loss is not a finite number.
    """
    losses = [float((ast.literal_eval(found) if isinstance(found, str) else found)[0]) for found in results]
    if not all(math.isfinite(loss) for loss in losses):
        raise ValueError(f"case {document['id']}: losses {losses} are not all finite")
    return _metrics(document, [index for index, loss in enumerate(losses) if loss == min(losses)])


def score_reply(document: Document, results: Sequence[str]) -> dict[str, Any]:
    """Metrics of a case that was answered in words, `unparsed` among them: 1 where the reply names no option."""
    choice = parse_reply(results[0], document["options"]).choice
    return _metrics(document, [] if choice is None else [choice]) | {"unparsed": float(choice is None)}


def accuracy(items: Sequence[Mapping[str, Any]]) -> float:
    """Share of cases that are right."""
    return math.fsum(item["score"] for item in items) / len(items)


def macro_accuracy(items: Sequence[tuple[str, float]]) -> float:
    """Mean of the classes' accuracies, from (class code, 1 or 0) of each case."""
    by_class: dict[str, list[float]] = defaultdict(list)
    for code, correct in items:
        by_class[code].append(correct)
    return math.fsum(math.fsum(found) / len(found) for found in by_class.values()) / len(by_class)


def class_metric(code: str) -> str:
    """Name of the accuracy on one class."""
    return f"acc_{code}"


def _metrics(document: Document, picked: Sequence[int]) -> dict[str, Any]:
    """`acc` carries the patient, so that lmms-eval clusters its standard error; `chosen` is only logged.

    Of several options picked each counts as its expectation, and none is logged.
    """
    code = document["code"]
    correct = 1 / len(picked) if document["answer"] in picked else 0.0
    return {
        "acc": {"score": correct, "group": document["group"]},
        "acc_macro": (code, correct),
        class_metric(code): correct,
        "chosen": picked[0] if len(picked) == 1 else None,
    }
