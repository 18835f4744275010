"""Scoring a model behind an OpenAI-compatible endpoint: `--model openai:NAME --endpoint http://host/v1`.

Images are sent to that address and nowhere else; there is no default. A key is read from the environment variable OPENAI_API_KEY;
a server of one's own usually needs none.
"""

import base64
import hashlib
import io
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from benchmark.scorers.scorer import REPLY_TOKENS, Ask, AskError, Four, Score, View, renormalised
from mgll.formats import describe_errors, one_line
from mgll.vocabulary.questions import LETTERS

if TYPE_CHECKING:
    from PIL.Image import Image

#: How many of the most probable tokens are asked for; the interface allows no more.
LISTED = 20

#: Requests under way at once; tries after a refusal for now (429, 5xx, no connection); seconds that a server may be silent.
PARALLEL, RETRIES, TIMEOUT = 8, 6, 120.0

#: Seconds in which a reply must be whole, with all tries; bytes that it may have.
DEADLINE, LARGEST = 900.0, 10_000_000


class _Token(BaseModel):
    token: str
    logprob: FiniteFloat


class _Place(_Token):
    top_logprobs: list[_Token] = []


class _Places(BaseModel):
    content: list[_Place] | None = None


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Places | None = None


class _Answer(BaseModel):
    """The entries of a `chat.completion` that are read."""

    choices: list[_Choice] = Field(min_length=1)


class EndpointScorer:
    """A `Scorer` over `chat/completions`: one request for each question and order, at temperature 0.

    Letter view: the probabilities of the letters among the alternatives listed for the reply's first token, renormalised over the
    four. A letter that is not listed gets the probability of the last one listed, which it cannot exceed: so the choice stands, and
    the probability of what is chosen is never overstated. Where no letter is listed, or no log-probabilities come back, scoring
    stops with the case's name: nothing is guessed. Redirections are not followed: questions and images go where the user said.

    Args:
        model: as the server calls it.
        endpoint: address of the interface, up to `/v1`.
        name: what reports call the model.

    Raises:
        ValueError: if there is no address, or the package `openai` is missing.
    """

    views: tuple[View, ...] = ("letter", "text")

    def __init__(self, model: str, endpoint: str | None, name: str | None = None) -> None:
        if not endpoint:
            raise ValueError(f"openai:{model} needs --endpoint, the server's address such as http://127.0.0.1:8000/v1")
        try:
            # optional, from the extra `endpoint`
            from openai import DefaultHttpxClient, OpenAI
        except ImportError:
            raise ValueError("the package openai is missing; `pip install mgll-graft[endpoint]` brings it") from None
        self.name, self._model = name or f"openai:{model}", model
        deciding = repr((endpoint.rstrip("/"), model, REPLY_TOKENS, LISTED))
        self.fingerprint = hashlib.sha256(deciding.encode()).hexdigest()
        key = os.environ.get("OPENAI_API_KEY") or "none"
        http = DefaultHttpxClient(follow_redirects=False)
        self._client = OpenAI(api_key=key, base_url=endpoint, max_retries=RETRIES, timeout=TIMEOUT, http_client=http)
        self._told = False

    def score(self, asks: Sequence[Ask], views: Sequence[View]) -> list[list[Score]]:
        """Score questions by one request for each order and view (`Scorer.score`).

        Raises:
            AskError: if a question gets no usable answer.
        """
        images = [_data_url(ask.image) for ask in asks]
        questions = [(number, text) for number, ask in enumerate(asks) for text in ask.texts]

        def scored(question: tuple[int, str]) -> Score:
            number, text = question
            try:
                return self._score(images[number], text, views)
            except ValueError as error:
                raise AskError(number, f"{self.name}: {error}") from error

        with ThreadPoolExecutor(PARALLEL) as pool:
            scores = pool.map(scored, questions)
            return [[next(scores) for _ in ask.orders] for ask in asks]

    def _score(self, image: str, text: str, views: Sequence[View]) -> Score:
        choice = self._ask(image, text, "letter" in views)
        said = (choice.message.content or choice.message.refusal or "").strip()
        if not said and choice.finish_reason == "length":
            raise ValueError(
                f"the {REPLY_TOKENS} tokens of the reply were used up before a word of it (it reasons first?)"
            )
        if "letter" not in views:
            return Score(None, said, text)
        places = (choice.logprobs and choice.logprobs.content) or []
        first = next((place for place in places if place.token.strip()), None)
        if first is None or not first.top_logprobs:
            raise ValueError("no log-probabilities come back; ask for the text view only (--views text)")
        letters, mass = self._letters(first.top_logprobs)
        return Score(letters, said if "text" in views else first.token.strip(), text, letter_mass=mass)

    def _ask(self, image: str, text: str, log_probs: bool) -> _Choice:
        """Send a request and return the server's answer.

        Raises:
            ValueError: if it refuses for good, cannot be reached, or answers something else.
        """
        content = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": text}]
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": REPLY_TOKENS,
            "temperature": 0,
        }
        if log_probs:
            body |= {"logprobs": True, "top_logprobs": LISTED}
        try:
            return _Answer.model_validate_json(_within(DEADLINE, lambda: self._send(body))).choices[0]
        except ValidationError as error:
            raise ValueError(f"the answer is not that of chat/completions: {describe_errors(error)}") from error

    def _send(self, body: dict[str, Any]) -> bytes:
        from openai import APIStatusError, OpenAIError

        content = bytearray()
        try:
            with self._client.chat.completions.with_streaming_response.create(**body) as reply:
                for part in reply.iter_bytes():
                    content += part
                    if len(content) > LARGEST:
                        raise ValueError(f"the reply is larger than {LARGEST:,} bytes")
        except APIStatusError as error:
            if to := error.response.headers.get("location"):
                raise ValueError(
                    f"the server sends the question on to {one_line(to)}, which is not followed; give that address as --endpoint if"
                    " it is meant"
                ) from error
            raise ValueError(one_line(error)) from error
        except OpenAIError as error:
            raise ValueError(one_line(error)) from error
        return bytes(content)

    def _letters(self, listed: Sequence[_Token]) -> tuple[Four, float]:
        """Log-probabilities of the letters relative to one another, and the probability of those that are listed."""
        found: dict[str, list[float]] = defaultdict(list)
        for token in listed:
            found[token.token.strip(" \n\t▁Ġ")].append(token.logprob)
        if not any(letter in found for letter in LETTERS):
            tokens = ", ".join(repr(token.token) for token in listed[:5])
            raise ValueError(f"none of the letters A to D is among the {len(listed)} tokens listed ({tokens}, ...)")
        if not self._told and not all(letter in found for letter in LETTERS):
            self._told = True
            print(
                f"{self.name}: a letter that is not listed gets the probability of the last one listed", file=sys.stderr
            )
        # a hair below, so that a letter that is listed comes before one that is not
        unlisted = min(token.logprob for token in listed) - 1e-6
        mass = float(sum(np.exp(found[letter]).sum() for letter in LETTERS if letter in found))
        return renormalised(np.logaddexp.reduce(found.get(letter, [unlisted])) for letter in LETTERS), min(1.0, mass)


def _within(seconds: float, call: Callable[[], bytes]) -> bytes:
    """What `call` returns, if it does so in time: a server that sends a byte now and then never falls silent.

    Raises:
        ValueError: if it does not; what it still does ends with the process.
    """
    found: Future[bytes] = Future()

    def settle() -> None:
        try:
            found.set_result(call())
        except BaseException as error:
            found.set_exception(error)

    Thread(target=settle, daemon=True).start()
    try:
        return found.result(seconds)
    except TimeoutError:
        raise ValueError(f"no whole reply in {seconds:.0f} s") from None


def _data_url(image: "Image") -> str:
    """An image as a PNG in a data URL, its pixels unchanged."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
