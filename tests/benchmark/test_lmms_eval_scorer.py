"""Our scoring with lmms-eval's models: its own ones, ours through it, and one that counts tokens of the prompt."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import stirred_host

pytest.importorskip("lmms_eval", reason="the extra `lmms-eval` is not installed")

from lmms_eval.api.model import lmms
from lmms_eval.models import MODEL_REGISTRY_V2
from lmms_eval.models.registry_v2 import ModelManifest
from loguru import logger
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from benchmark.cases.case import Case, write_cases
from benchmark.cases.images import open_case_image
from benchmark.predictions.file import read_run
from benchmark.run_mcq import main
from benchmark.scorers.lmms_eval_scorer import LmmsEvalScorer
from benchmark.scorers.scorer import VIEWS, Ask
from benchmark.scorers.transformers_scorer import TransformersScorer
from benchmark.stats.rotations import as_asked
from mllm_adapters.hosts.registry import get_host

prompt = get_host("llava").prompt


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def host(name: str) -> Path:
        if name not in made:
            made[name] = stirred_host(name, tmp_path_factory.mktemp("hosts") / name)
        return made[name]

    return host


@pytest.fixture(scope="module")
def cases(coloured_cases: Callable[..., list[Case]]) -> list[Case]:
    return coloured_cases(5)


@pytest.fixture(scope="module")
def asks(cases: list[Case]) -> list[Ask]:
    return [
        Ask(open_case_image(case), case.question, tuple(as_asked(case.options, r) for r in range(4))) for case in cases
    ]


class TurnAndPrompt(lmms):
    """As many wrappers: the loss of transformers over the answer and the end of the turn, and `beside` tokens of the prompt."""

    def __init__(self, pretrained: str, beside: int = 0, trouble: str = "", batch_size: int = 1, device: str = "cpu"):
        super().__init__()
        self.model = LlavaForConditionalGeneration.from_pretrained(pretrained).eval()
        self.processor = LlavaProcessor.from_pretrained(pretrained)
        self.beside, self.trouble = beside, trouble

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        found = []
        for text, answer, visual, number, task, split in (request.args for request in requests):
            (image,) = visual(self.task_dict[task][split][number])
            before = self.processor(images=image, text=prompt(text), return_tensors="pt")["input_ids"].shape[1]
            inputs = self.processor(images=image, text=f"{prompt(text)} {answer}</s>", return_tensors="pt")
            labels = inputs["input_ids"].clone()
            labels[:, : before - self.beside] = -100
            with torch.inference_mode():
                found.append((self.model(**inputs, labels=labels).loss.item(), False))
        return found

    def generate_until(self, requests: list[Any]) -> list[str]:
        if self.trouble:
            logger.error(self.trouble)
        return ["" for _ in requests]

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        raise NotImplementedError


@pytest.fixture(scope="module", autouse=True)
def turn_and_prompt() -> None:
    """Known to lmms-eval as a plug-in is."""
    MODEL_REGISTRY_V2.register_manifest(
        ModelManifest("turn_and_prompt", simple_class_path=f"{__name__}.TurnAndPrompt"), overwrite=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llava", "instructblip", "internvl"])
def test_our_plug_in_through_lmms_eval_scores_as_we_do(name: str, hosts, asks: list[Ask]) -> None:
    scorer = LmmsEvalScorer(f"mgll_graft:pretrained={hosts(name)},batch_size=3")
    assert set(scorer.views) == set(VIEWS)
    ours = TransformersScorer(hosts(name)).score(asks, VIEWS)
    for found, expected in zip(scorer.score(asks, VIEWS), ours, strict=True):
        for one, other in zip(found, expected, strict=True):
            assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
            assert one.option_log_probs == pytest.approx(other.option_log_probs, abs=1e-4)
            assert one.text == other.text


def test_only_the_views_asked_for_are_given(hosts, asks: list[Ask]) -> None:
    scorer = LmmsEvalScorer(f"mgll_graft:pretrained={hosts('llava')},batch_size=3")
    (score,) = scorer.score([asks[0]._replace(orders=asks[0].orders[:1])], ["option"])[0]
    assert (score.log_probs, score.text, score.prompt) == (None, "", asks[0].texts[0])
    assert score.option_log_probs is not None


@pytest.mark.slow
def test_lmms_evals_own_llava_has_replies_only_and_its_likelihood_is_not_trusted(
    hosts, asks: list[Ask], capsys
) -> None:
    scorer = LmmsEvalScorer(f"llava_hf:pretrained={hosts('llava')},device_map=cpu")
    assert scorer.views == ("text",)
    assert "text view only: lmms-eval:llava_hf: loglikelihood fails" in capsys.readouterr().err
    replies = [score.text for scores in scorer.score(asks, ["text"]) for score in scores]
    assert len(replies) == 20
    assert len(set(replies)) > 2


@pytest.mark.slow
@pytest.mark.parametrize(("beside", "views"), [(0, ("letter", "text", "option")), (7, ("letter", "text"))])
def test_letters_are_the_models_own_whatever_else_the_loss_counts(beside: int, views, hosts, asks: list[Ask]) -> None:
    scorer = LmmsEvalScorer(f"turn_and_prompt:pretrained={hosts('llava')},beside={beside}")
    assert scorer.views == views
    model = LlavaForConditionalGeneration.from_pretrained(hosts("llava")).eval()
    processor = LlavaProcessor.from_pretrained(hosts("llava"))
    for ask, scores in zip(asks, scorer.score(asks, ["letter"]), strict=True):
        for text, score in zip(ask.texts, scores, strict=True):
            logs = []
            for letter in "ABCD":  # the letter, and the end of the turn after it
                ids = processor(images=ask.image, text=f"{prompt(text)} {letter}</s>", return_tensors="pt")
                with torch.inference_mode():
                    places = model(**ids).logits[0, -3:-1].log_softmax(-1)
                logs.append(places[[0, 1], ids["input_ids"][0, -2:]].sum())
            expected = torch.stack(logs).log_softmax(0).tolist()
            assert score.log_probs == pytest.approx(expected, abs=1e-4)


def test_an_error_that_a_wrapper_only_logs_stops_the_run(hosts, asks: list[Ask]) -> None:
    scorer = LmmsEvalScorer(f"turn_and_prompt:pretrained={hosts('llava')},trouble=no memory")
    with pytest.raises(ValueError, match="lmms-eval:turn_and_prompt reports an error: no memory"):
        scorer.score(asks, ["text"])


def test_the_fingerprint_follows_model_settings_and_weights(hosts, tmp_path: Path) -> None:
    import shutil

    host, moved = hosts("llava"), shutil.copytree(hosts("llava"), tmp_path / "moved")
    first = LmmsEvalScorer(f"turn_and_prompt:pretrained={host}").fingerprint
    assert LmmsEvalScorer(f"turn_and_prompt:pretrained={moved}").fingerprint == first
    assert LmmsEvalScorer(f"turn_and_prompt:pretrained={host},beside=1").fingerprint != first
    assert LmmsEvalScorer(f"mgll_graft:pretrained={host}").fingerprint != first


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_model:pretrained=x", "no_such_model"),
        ("mgll_graft:pretrained=nowhere", "lmms-eval cannot load mgll_graft with pretrained=nowhere"),
        ("mgll_graft", "with no arguments"),
    ],
)
def test_a_model_that_cannot_be_had_is_named(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LmmsEvalScorer(spec)


def test_without_lmms_eval_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmms_eval", None)
    with pytest.raises(ValueError, match=r"lmms-eval is not installed; .*mgll-graft\[lmms-eval\]"):
        LmmsEvalScorer("llava_hf:pretrained=x")


@pytest.mark.slow
def test_one_command_scores_it(hosts, coloured_cases, tmp_path: Path) -> None:
    cases = coloured_cases(4, tmp_path)
    write_cases(tmp_path / "cases.jsonl", cases)
    shared = ["--cases", str(tmp_path / "cases.jsonl"), "--views", "letter", "text", "option", "--device", "cpu"]
    directory = hosts("llava")
    assert main(["--model", str(directory), "--out", str(tmp_path / "ours"), *shared]) == 0
    model = f"lmms-eval:mgll_graft:pretrained={directory},batch_size=2"
    assert main(["--model", model, "--name", "theirs", "--out", str(tmp_path / "theirs"), *shared]) == 0
    ours, theirs = (read_run(tmp_path / name) for name in ("ours", "theirs"))
    assert theirs.header["model"] == "theirs"
    for one, other in zip(ours.predictions, theirs.predictions, strict=True):
        assert (one.case, one.chosen, one.said, one.text) == (other.case, other.chosen, other.said, other.text)
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
        assert one.option_log_probs == pytest.approx(other.option_log_probs, abs=1e-4)
