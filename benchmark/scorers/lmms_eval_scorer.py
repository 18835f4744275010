"""Our scoring with one of lmms-eval's models: `--model lmms-eval:MODEL:key=value,...`, written as for `lmms-eval --model_args`.

    python benchmark/run_mcq.py --model lmms-eval:llava_hf:pretrained=DIR,device_map=cpu --views text --cases cases.jsonl

Every model has the text view. Letters and options need its `loglikelihood`, which most of lmms-eval's wrappers lack or have in a
form that fails; the model is tried once when it is loaded, and a view that it cannot give is not offered.
"""

import hashlib
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from benchmark.cases.images import BLANK_COLOUR, BLANK_SIZE
from benchmark.scorers.scorer import REPLY_TOKENS, Ask, Four, Score, View, renormalised
from mgll.vocabulary.questions import LETTERS, QUESTIONS

_Document = dict[str, Any]
_TASK, _SPLIT = "cases", "test"

#: Tokens that a loss of one letter may be a mean over without a token of the prompt: a space, the letter, the end of the turn.
OWN_TOKENS = 3


class LmmsEvalScorer:
    """A `Scorer` over a model of lmms-eval.

    A wrapper's loss is a mean over the tokens that it supervises, often the end of the turn among them and sometimes a part of the
    prompt. A letter's is multiplied by their number: what all four have in common then cancels, and the probabilities are the
    model's own. An option's is taken as it is, and only from models that count no part of the prompt.

    Args:
        spec: `MODEL:key=value,...`; `batch_size` may be among them.
        device: torch device.
        name: what reports call the model.

    Raises:
        ValueError: if lmms-eval is not installed, knows no such model, or cannot load it.
    """

    def __init__(self, spec: str, device: str = "cpu", name: str | None = None) -> None:
        model, _, arguments = spec.partition(":")
        self.name, self.device = name or f"lmms-eval:{model}", device
        self._lm, self.fingerprint = _load(model, arguments, device)
        self.views = self._tried_views()

    def score(self, asks: Sequence[Ask], views: Sequence[View]) -> list[list[Score]]:
        """Score questions by requests to the model's lmms-eval wrapper (`Scorer.score`).

        Raises:
            ValueError: if the model fails, or its wrapper reports an error and goes on with an empty reply.
        """
        documents: list[_Document] = [{"image": ask.image, "text": text} for ask in asks for text in ask.texts]
        orders = [order for ask in asks for order in ask.orders]
        letters: list[Four | None] = [None] * len(documents)
        options: list[Four | None] = [None] * len(documents)
        if "letter" in views:
            found = self._losses(documents, [LETTERS] * len(documents))
            letters = [renormalised(-loss * tokens for loss, tokens in four) for four in found]
        if "option" in views:
            options = [_four(-loss for loss, _ in four) for four in self._losses(documents, orders)]
        said = self._replies(documents) if "text" in views else [""] * len(documents)
        scores = iter(
            Score(letter, text, document["text"], option)
            for letter, text, document, option in zip(letters, said, documents, options, strict=True)
        )
        return [[next(scores) for _ in ask.orders] for ask in asks]

    def _tried_views(self) -> tuple[View, ...]:
        """The views that the model can give, found by asking it for the letters on a blank image."""
        image = Image.new("RGB", BLANK_SIZE, BLANK_COLOUR)
        ask = Ask(image, QUESTIONS[0], (("one", "two", "three", "four"),))
        try:
            ((_, counted), *_) = self._losses([{"image": image, "text": ask.texts[0]}], [LETTERS])[0]
        except ValueError as error:
            print(f"text view only: {error}", file=sys.stderr)
            return ("text",)
        return ("letter", "text", "option") if counted <= OWN_TOKENS else ("letter", "text")

    def _replies(self, documents: Sequence[_Document]) -> list[str]:
        def arguments(index: int) -> tuple[Any, ...]:
            decoding = {"max_new_tokens": REPLY_TOKENS, "do_sample": False, "temperature": 0, "until": []}
            what = (decoding, _image) if self._lm.is_simple else (_messages, decoding)
            return (documents[index]["text"], *what, index, _TASK, _SPLIT)

        requests = [self._request("generate_until", arguments(index)) for index in range(len(documents))]
        return [str(getattr(found, "text", found)).strip() for found in self._answers(documents, requests)]

    def _losses(
        self, documents: Sequence[_Document], choices: Sequence[Sequence[str]]
    ) -> list[list[tuple[float, int]]]:
        """For each document and each of its four choices the loss and how many tokens it is a mean over."""
        requests = [
            self._request("loglikelihood", (documents[index]["text"], choice, _image, index, _TASK, _SPLIT))
            for index, four in enumerate(choices)
            for choice in four
        ]
        with _supervised_tokens(getattr(self._lm, "model", None)) as counts:
            found = self._answers(documents, requests)
        losses = [float(getattr(one, "text", one)[0]) for one in found]
        if not all(map(math.isfinite, losses)):
            raise ValueError(f"{self.name}: its losses are not finite numbers: {losses[:4]}")
        if counts and len(counts) != len(losses):
            raise ValueError(f"{self.name}: {len(counts)} losses were computed for {len(losses)} requests")
        pairs = iter(zip(losses, counts or [1] * len(losses), strict=True))
        return [[next(pairs) for _ in four] for four in choices]

    def _answers(self, documents: Sequence[_Document], requests: list[Any]) -> list[Any]:
        """Run requests of one kind and return the model's answers."""
        # here, because torch takes seconds to import
        from loguru import logger

        self._lm.task_dict = {_TASK: {_SPLIT: documents}}
        reported: list[str] = []
        sink = logger.add(reported.append, level="ERROR", format="{message}")
        try:
            found = list(getattr(self._lm, requests[0].request_type)(requests))
        except Exception as error:
            raise ValueError(
                f"{self.name}: {requests[0].request_type} fails: {error or type(error).__name__}"
            ) from error
        finally:
            logger.remove(sink)
        if reported:
            raise ValueError(f"{self.name} reports an error: {reported[0].strip()}")
        return found

    def _request(self, kind: str, arguments: tuple[Any, ...]) -> Any:
        from lmms_eval.api.instance import Instance

        metadata = {"task": _TASK, "doc_id": arguments[-3], "repeats": 1}
        return Instance(request_type=kind, arguments=arguments, idx=0, metadata=metadata)


def _load(model: str, arguments: str, device: str) -> tuple[Any, str]:
    """Load the model, and return it with a hash of what decides its answers."""
    try:
        from lmms_eval import utils
        from lmms_eval.models import get_model
    except ImportError:
        raise ValueError("lmms-eval is not installed; `pip install mgll-graft[lmms-eval]` brings it") from None
    from benchmark.scorers.transformers_scorer import directory_fingerprint

    settings = utils.simple_parse_args_string(arguments)
    try:
        lm = get_model(model, force_simple=True)(**{"batch_size": 1, "device": device, **settings})
    except Exception as error:
        raise ValueError(f"lmms-eval cannot load {model} with {arguments or 'no arguments'}: {error}") from error
    directory = str(settings.get("pretrained", ""))
    if directory and Path(directory).is_dir():
        settings["pretrained"] = directory_fingerprint(directory)
    settings.pop("device", None)
    deciding = (version("lmms-eval"), f"{type(lm).__module__}.{type(lm).__name__}", sorted(settings.items()))
    return lm, hashlib.sha256(repr(deciding).encode()).hexdigest()


@contextmanager
def _supervised_tokens(model: Any) -> Iterator[list[int]]:
    """For each row of labels that the model is given in the block, how many tokens its loss is a mean over."""
    counts: list[int] = []
    if not hasattr(model, "register_forward_hook"):
        yield counts
        return

    def count(_module: Any, _inputs: Any, given: dict[str, Any], _output: Any) -> None:
        if given.get("labels") is not None:
            counts.extend((given["labels"][:, 1:] != -100).sum(-1).tolist())

    handle = model.register_forward_hook(count, with_kwargs=True)
    try:
        yield counts
    finally:
        handle.remove()


def _image(document: _Document) -> list[Image.Image]:
    return [document["image"]]


def _messages(document: _Document) -> list[dict[str, Any]]:
    content = [{"type": "image", "url": document["image"]}, {"type": "text", "text": document["text"]}]
    return [{"role": "user", "content": content}]


def _four(values: Iterable[float]) -> Four:
    a, b, c, d = values
    return a, b, c, d
