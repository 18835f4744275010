"""What the plug-in makes of lmms-eval's requests: replies, losses, images, settings."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import stirred_host

pytest.importorskip("lmms_eval", reason="the extra `lmms-eval` is not installed")

from lmms_eval.api.instance import Instance
from lmms_eval.models import get_model
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from benchmark.harnesses.lmms_eval_model import MODEL_ID, Decoding, MgllGraft, cut, decoding_of
from mllm_adapters.hosts.registry import get_host

prompt = get_host("llava").prompt
GREEDY = {"max_new_tokens": 20, "until": []}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stirred_host("llava", tmp_path_factory.mktemp("hosts") / "llava")


@pytest.fixture(scope="module")
def model(directory: Path) -> MgllGraft:
    """With six documents: pictures, and the last one of them without."""
    model = MgllGraft(str(directory), device="cpu", batch_size=4)
    generator = np.random.default_rng(0)
    pictures = [Image.fromarray(generator.integers(0, 256, (40, 31 + n, 3), dtype=np.uint8)) for n in range(5)]
    model.task_dict = {"task": {"test": [{"images": [picture]} for picture in pictures] + [{"images": []}]}}
    return model


def request(kind: str, text: str, what: Any, document: int, visual: Callable[..., Any] | None = None) -> Instance:
    arguments = (text, what, visual or (lambda found: found["images"]), document, "task", "test")
    return Instance(kind, arguments, 0, {"task": "task", "doc_id": document, "repeats": 1})


@pytest.fixture(scope="module")
def plain(directory: Path) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The same in plain transformers."""
    return LlavaForConditionalGeneration.from_pretrained(directory).eval(), LlavaProcessor.from_pretrained(directory)


def asked(model: MgllGraft, document: int, text: str) -> tuple[Image.Image | None, str]:
    images = model.task_dict["task"]["test"][document]["images"]
    return (images[0], prompt(text)) if images else (None, prompt(text).replace("<image>\n", ""))


def test_lmms_eval_finds_it_by_its_entry_point() -> None:
    assert get_model(MODEL_ID) is MgllGraft


def test_replies_in_batches_are_those_of_plain_transformers(model: MgllGraft, plain) -> None:
    host, processor = plain
    texts = [
        "What is it?",
        "<image>\nWhat is seen here, and where?",
        "Why?",
        "What is it?",
        "Name it.",
        "What is an eye?",
    ]
    found = model.generate_until([request("generate_until", text, GREEDY, n) for n, text in enumerate(texts)])
    for number, (text, said) in enumerate(zip(texts, found, strict=True)):
        image, question = asked(model, number, text.removeprefix("<image>\n"))
        inputs = processor(images=image, text=question, return_tensors="pt")
        ends = [host.generation_config.eos_token_id, processor.tokenizer.eos_token_id]
        expected = host.generate(**inputs, max_new_tokens=20, do_sample=False, eos_token_id=ends)[
            0, inputs["input_ids"].shape[1] :
        ]
        assert said == processor.tokenizer.decode(expected, skip_special_tokens=True).strip()
    assert len(set(found)) > 1


def test_a_loss_is_the_mean_over_the_answers_tokens_and_greedy_is_what_would_be_written(
    model: MgllGraft, plain
) -> None:
    host, processor = plain
    written = [model.generate_until([request("generate_until", "Which?", {"max_new_tokens": 3}, n)])[0] for n in (0, 5)]
    choices = [["A", " red tissue", written[0]], ["B", "C", written[1]]]
    requests = [
        request("loglikelihood", "Which?", choice, document)
        for document, three in zip((0, 5), choices, strict=True)
        for choice in three
    ]
    found = [result.text for result in model.loglikelihood(requests)]
    flat = [(document, choice) for document, three in zip((0, 5), choices, strict=True) for choice in three]
    for (loss, greedy), (document, choice) in zip(found, flat, strict=True):
        image, question = asked(model, document, "Which?")
        inputs = processor(images=image, text=f"{question} {choice.strip()}", return_tensors="pt")
        labels = inputs["input_ids"].clone()
        labels[:, : processor(images=image, text=question, return_tensors="pt")["input_ids"].shape[1]] = -100
        with torch.inference_mode():
            result = host(**inputs, labels=labels)
        assert loss == pytest.approx(result.loss.item(), abs=1e-4)
        answer = labels[0] != -100
        assert greedy == torch.equal(result.logits[0, :-1].argmax(-1)[answer[1:]], labels[0][answer])
    assert [greedy for _, greedy in found[2::3]] == [True, True]


def test_a_continuation_may_be_a_function_of_the_document(model: MgllGraft) -> None:
    named, given = (
        model.loglikelihood([request("loglikelihood", "Which?", what, 1)])[0].text
        for what in ("C", lambda document: "C")
    )
    assert named == given


def test_several_images_a_video_and_several_rounds_are_refused(model: MgllGraft) -> None:
    picture = Image.new("RGB", (20, 20))
    with pytest.raises(ValueError, match=r"task, document 3: 2 images; LLaVA-1.5 takes one image a question"):
        model.generate_until([request("generate_until", "Which?", GREEDY, 3, lambda _: [picture, picture])])
    with pytest.raises(ValueError, match=r"a str in place of an image"):
        model.loglikelihood([request("loglikelihood", "Which?", "A", 3, lambda _: ["film.mp4"])])
    with pytest.raises(NotImplementedError, match="one question at a time"):
        model.generate_until_multi_round([])


def test_a_picture_of_any_mode_is_seen_in_colour(model: MgllGraft) -> None:
    grey = Image.fromarray(np.arange(0, 250, dtype=np.uint8).reshape(10, 25))
    texts = [
        model.loglikelihood([request("loglikelihood", "Which?", "A", 0, lambda _, image=image: [image])])[0].text
        for image in (grey, grey.convert("RGB"))
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Decoding(1024, (), {})),
        (
            {"max_new_tokens": 5, "until": "\n", "temperature": 0, "top_p": 0.9, "num_beams": 1},
            Decoding(5, ("\n",), {}),
        ),
        ({"do_sample": False, "temperature": 0.7}, Decoding(1024, (), {})),
        ({"num_beams": 3}, Decoding(1024, (), {"num_beams": 3})),
        (
            {"temperature": 0.7, "top_p": 0.9, "image_aspect_ratio": "pad", "until": ["a", "b"]},
            Decoding(1024, ("a", "b"), {"do_sample": True, "temperature": 0.7, "top_p": 0.9}),
        ),
    ],
)
def test_how_a_task_wants_its_replies(settings: dict[str, Any], expected: Decoding) -> None:
    assert decoding_of(settings) == expected


def test_a_task_may_sample_and_stop(model: MgllGraft) -> None:
    torch.manual_seed(0)
    hot = {"temperature": 5.0, "max_new_tokens": 8}
    said = {model.generate_until([request("generate_until", "What?", hot, 0)])[0] for _ in range(4)}
    assert len(said) > 1
    (whole,) = model.generate_until([request("generate_until", "What?", GREEDY, 0)])
    (short,) = model.generate_until([request("generate_until", "What?", GREEDY | {"until": [whole[2]]}, 0)])
    assert short == cut(whole, [whole[2]]) == whole[: whole.index(whole[2])]


@pytest.mark.parametrize("size", ["auto", 0, "2.5"])
def test_a_batch_size_is_a_number(directory: Path, size: object) -> None:
    with pytest.raises(ValueError, match="give mgll_graft a number from 1 on"):
        MgllGraft(str(directory), batch_size=size)


def test_half_precision_is_a_setting(directory: Path) -> None:
    model = MgllGraft(str(directory), device="cpu", dtype="bfloat16")
    model.task_dict = {"task": {"test": [{"images": [Image.new("RGB", (20, 20))]}]}}
    assert model._loaded.model.dtype == torch.bfloat16
    loss, _ = model.loglikelihood([request("loglikelihood", "Which?", "A", 0)])[0].text
    assert math.isfinite(loss)
