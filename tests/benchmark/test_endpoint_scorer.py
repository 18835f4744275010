"""A real server on this machine that answers as chat/completions does, well and badly, and what becomes of its answers."""

import base64
import hashlib
import io
import json
import math
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image
from pydantic import TypeAdapter

from benchmark.cases.case import write_cases
from benchmark.cases.images import open_case_image
from benchmark.predictions.file import read_run
from benchmark.run_mcq import main
from benchmark.scorers.endpoint_scorer import EndpointScorer
from benchmark.scorers.scorer import Ask, AskError
from benchmark.stats.rotations import as_asked
from mgll.vocabulary.questions import LETTERS

pytest.importorskip("openai", reason="the extra `endpoint` is not installed")

Answer = tuple[int, bytes]


class Server:
    """Answers with whatever `answer` makes of a request's body; keeps the bodies and the keys."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answer: Callable[[dict[str, Any]], Answer] = said
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                assert self.path == "/v1/chat/completions"
                server.bodies.append(body)
                server.keys.append(self.headers["authorization"])
                status, content = server.answer(body)
                self.send_response(status)
                self.send_header("content-type", "application/json" if content[:1] == b"{" else "text/html")
                self.send_header("content-length", str(len(content)))
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


def seen(body: dict[str, Any]) -> tuple[Image.Image, str]:
    (message,) = body["messages"]
    image, text = message["content"]
    kind, _, data = image["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data))), text["text"]


def opinion(image: Image.Image, text: str) -> list[float]:
    """What this model thinks of the four letters: something that pixels and words decide."""
    digest = hashlib.sha256(image.tobytes() + text.encode()).digest()
    return [-0.2 - digest[letter] / 40 for letter in range(4)]


def completion(text: str | None, listed: list[tuple[str, float]] | None = None, **message: Any) -> Answer:
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text, **message},
    }
    if listed is not None:
        places = [{"token": token, "logprob": value, "bytes": None} for token, value in listed]
        choice["logprobs"] = {"content": [{**places[0], "top_logprobs": places}], "refusal": None}
    return 200, json.dumps(
        {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    ).encode()


def said(body: dict[str, Any]) -> Answer:
    """As a server that knows log-probabilities: every letter in two spellings, other tokens between."""
    values = opinion(*seen(body))
    text = f"{LETTERS[values.index(max(values))]}."
    if not body.get("logprobs"):
        return completion(text)
    assert body["top_logprobs"] == 20
    halves = [
        (spelling, value - math.log(2))
        for letter, value in zip(LETTERS, values, strict=True)
        for spelling in (letter, f" {letter}")
    ]
    return completion(text, sorted([*halves, ("The", -3.0), ("a", -4.0)], key=lambda pair: -pair[1]))


@pytest.fixture
def asks(coloured_cases) -> list[Ask]:
    cases = coloured_cases(6)
    return [
        Ask(open_case_image(case), case.question, tuple(as_asked(case.options, r) for r in range(4))) for case in cases
    ]


def test_letters_and_replies_are_the_servers_for_every_order(server: Server, asks: list[Ask]) -> None:
    scores = EndpointScorer("m", server.endpoint).score(asks, ["letter", "text"])
    assert len(server.bodies) == 24
    assert {(body["model"], body["temperature"], body["max_tokens"]) for body in server.bodies} == {("m", 0, 32)}
    for ask, orders in zip(asks, scores, strict=True):
        for text, score in zip(ask.texts, orders, strict=True):
            values = opinion(ask.image, text)
            total = math.log(math.fsum(map(math.exp, values)))
            assert score.log_probs == pytest.approx([value - total for value in values])
            assert score.letter_mass == pytest.approx(min(1, math.exp(total)))
            assert (score.text, score.prompt) == (f"{LETTERS[values.index(max(values))]}.", text)


def test_requests_and_answers_are_those_of_the_openai_client(server: Server, asks: list[Ask]) -> None:
    from openai.types.chat import ChatCompletion
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

    EndpointScorer("m", server.endpoint).score(asks[:1], ["letter", "text"])
    for body in server.bodies:
        assert body.keys() <= CompletionCreateParamsNonStreaming.__annotations__.keys() | {"stream"}
        assert TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(body)["top_logprobs"] == 20
        answer = ChatCompletion.model_validate_json(said(body)[1], strict=True)
        assert answer.choices[0].logprobs
        assert answer.choices[0].logprobs.content


def test_a_run_goes_on_where_the_server_failed(server: Server, coloured_cases, tmp_path, capsys) -> None:
    cases = coloured_cases(6, tmp_path)
    write_cases(tmp_path / "cases.jsonl", cases)
    bad = open_case_image(cases[4])
    server.answer = lambda body: (
        (400, b'{"error": {"message": "too large"}}') if seen(body)[0].size == bad.size else said(body)
    )
    command = ["--model", "openai:m", "--endpoint", server.endpoint, "--cases", str(tmp_path / "cases.jsonl")]
    command += ["--out", str(tmp_path / "out"), "--views", "letter", "text", "--batch-size", "2"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "case case-004" in error
    assert "too large" in error
    server.answer, asked = said, len(server.bodies)
    assert main(command) == 0
    assert len(server.bodies) - asked == 4  # the first batch once more, to see that nothing changed, and the last one
    run = read_run(tmp_path / "out")
    assert [row.case for row in run.predictions] == [case.id for case in cases]
    for case, row in zip(cases, run.predictions, strict=True):
        values = opinion(open_case_image(case), Ask(bad, case.question, (case.options,)).texts[0])
        assert row.chosen == row.said == values.index(max(values))


def test_a_server_without_log_probabilities_has_its_words(server: Server, asks: list[Ask]) -> None:
    server.answer = lambda body: completion(" The answer is B. ")
    scorer = EndpointScorer("m", server.endpoint)
    assert [score.text for scores in scorer.score(asks, ["text"]) for score in scores] == ["The answer is B."] * 24
    assert "logprobs" not in server.bodies[0]
    with pytest.raises(AskError, match="no log-probabilities come back; ask for the text view only") as caught:
        scorer.score(asks, ["letter"])
    assert caught.value.number == 0


def test_it_tries_again_when_told_to_wait(server: Server, asks: list[Ask]) -> None:
    refusals = [(429, b'{"error": {"message": "slow down"}}'), (503, b"<html>busy</html>")]
    server.answer = lambda body: refusals.pop() if refusals else said(body)
    assert len(EndpointScorer("m", server.endpoint).score(asks[:1], ["letter"])[0]) == 4
    assert len(server.bodies) == 6
    server.answer = lambda body: (429, b'{"error": {"message": "slow down"}}')
    with pytest.raises(AskError, match="slow down"):
        EndpointScorer("m", server.endpoint).score([asks[0]._replace(orders=asks[0].orders[:1])], ["letter"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, b"<html>welcome</html>"), "not that of chat/completions"),
        ((200, b'{"choices": []}'), "choices"),
        ((200, b'{"choices": [{"message": {"content": 7}}]}'), r"choices\.0\.message\.content"),
        ((401, b'{"error": {"message": "no such key"}}'), "no such key"),
        (completion("C", [("C", math.nan)]), "finite"),
        (
            completion("The", [("The", -0.1), ("Based", -2.0)]),
            "none of the letters A to D is among the 2 tokens listed",
        ),
    ],
)
def test_a_useless_answer_stops_with_its_reason(server: Server, asks: list[Ask], answer: Answer, message: str) -> None:
    server.answer = lambda body: answer if seen(body)[0].size == asks[2].image.size else said(body)
    with pytest.raises(AskError, match=message) as caught:
        EndpointScorer("m", server.endpoint).score(asks, ["letter"])
    assert caught.value.number == 2


def test_a_refusal_in_words_is_a_reply_and_an_unfinished_thought_is_not(server: Server, asks: list[Ask]) -> None:
    server.answer = lambda body: completion(None, refusal="I can't help with that.")
    assert EndpointScorer("m", server.endpoint).score(asks[:1], ["text"])[0][0].text == "I can't help with that."
    unfinished = json.loads(completion("")[1])
    unfinished["choices"][0]["finish_reason"] = "length"
    server.answer = lambda body: (200, json.dumps(unfinished).encode())
    with pytest.raises(AskError, match="used up before a word"):
        EndpointScorer("m", server.endpoint).score(asks[:1], ["text"])


def test_a_letter_that_is_not_listed_is_at_most_as_probable_as_the_last_one(
    server: Server, asks: list[Ask], capsys
) -> None:
    server.answer = lambda body: completion("C", [("C", -0.1), ("The", -3.0), ("D", -5.0)])
    score = EndpointScorer("m", server.endpoint).score(asks[:1], ["letter"])[0][0]
    a, b, c, d = score.log_probs
    assert (c - d, d - a, a - b) == pytest.approx((4.9, 0, 0), abs=1e-5)
    assert c > d > a == b
    assert score.letter_mass == pytest.approx(math.exp(-0.1) + math.exp(-5))  # of those that it saw
    assert score.text == "C"
    assert "a letter that is not listed" in capsys.readouterr().err


def test_the_key_is_read_from_the_environment_and_is_no_part_of_the_fingerprint(
    server: Server, asks: list[Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = EndpointScorer("m", server.endpoint)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    second = EndpointScorer("m", server.endpoint, name="mine")
    second.score(asks[:1], ["text"])
    assert set(server.keys) == {"Bearer secret"}
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint not in {
        EndpointScorer("n", server.endpoint).fingerprint,
        EndpointScorer("m", "http://x/v1").fingerprint,
    }
    assert (first.name, second.name) == ("openai:m", "mine")


def test_questions_follow_no_redirection(server: Server, asks: list[Ask], monkeypatch: pytest.MonkeyPatch) -> None:
    other = Server()
    send = BaseHTTPRequestHandler.end_headers

    def with_location(handler: BaseHTTPRequestHandler) -> None:
        if handler.server is server.http:
            handler.send_header("location", f"{other.endpoint}/chat/completions\x1b[2J")
        send(handler)

    monkeypatch.setattr(BaseHTTPRequestHandler, "end_headers", with_location)
    for status in (301, 302, 303, 307, 308):
        server.answer = lambda body, status=status: (status, b"{}")  # type: ignore[misc]
        with pytest.raises(AskError, match=r"sends the question on to http.*is not followed") as caught:
            EndpointScorer("m", server.endpoint).score(asks[:1], ["text"])
        assert str(caught.value).isprintable()
    assert not other.bodies
    other.http.shutdown()
    other.http.server_close()


def test_what_a_server_says_cannot_steer_the_terminal(server: Server, asks: list[Ask]) -> None:
    server.answer = lambda body: (400, b'{"error": {"message": "\\u001b]0;owned\\u0007\\nno"}}')
    with pytest.raises(AskError, match="owned") as caught:
        EndpointScorer("m", server.endpoint).score(asks[:1], ["text"])
    assert str(caught.value).isprintable()


def test_a_reply_that_trickles_or_never_ends_stops(
    server: Server, asks: list[Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = [asks[0]._replace(orders=asks[0].orders[:1])]
    monkeypatch.setattr("benchmark.scorers.endpoint_scorer.LARGEST", 1000)
    server.answer = lambda body: (200, b"{" + b" " * 2000)
    with pytest.raises(AskError, match="larger than 1,000 bytes"):
        EndpointScorer("m", server.endpoint).score(one, ["text"])
    monkeypatch.setattr("benchmark.scorers.endpoint_scorer.DEADLINE", 0.2)
    released = threading.Event()

    def slow(body: dict[str, Any]) -> Answer:
        released.wait(20)
        return said(body)

    server.answer = slow
    with pytest.raises(AskError, match="no whole reply in 0 s"):
        EndpointScorer("m", server.endpoint).score(one, ["text"])
    released.set()


def test_no_image_is_sent_anywhere_unless_told_where(capsys, cases_file) -> None:
    assert main(["--model", "openai:m", "--cases", str(cases_file)]) == 1
    assert "needs --endpoint" in capsys.readouterr().err
