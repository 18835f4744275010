"""Four-option questions for the demo decoder, and the share that it answers right from text alone."""

import re
from collections.abc import Sequence
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from mgll.vocabulary.questions import LETTERS, QUESTIONS, question_text
from mllm_adapters.contract.host import Host, LoadedHost
from mllm_adapters.demo.decoder import IMAGE, names
from mllm_adapters.hosts.llava.host import Llava
from mllm_adapters.prompting.answer_slot import letter_ids


class Question(NamedTuple):
    """A four-option question with its findings.

    `options` are indices of diseases, and `answer` is the place of the right one among them. `weights` [diseases] say how strongly
    each disease is present; the answer has the largest weight of the options.
    """

    wording: str
    options: tuple[int, ...]
    answer: int
    weights: np.ndarray


def draw_question(rng: np.random.Generator, spread: bool, doubt: float = 0.8) -> Question:
    """Draw a question over all disease names.

    Without `spread` one to three findings are equally present, and one of them is an option. With `spread` every finding is present
    to some degree, up to `doubt`, as in the output of a tower that is not sure, and the strongest option is the answer.
    """
    order = rng.permutation(len(names()))
    options, answer = tuple(int(index) for index in order[:4]), int(rng.integers(4))
    weights = np.zeros(len(names()))
    others = order[4 : 4 + int(rng.integers(0, 3))]
    weights[options[answer]] = 1.0
    if spread:
        background = rng.uniform(0, doubt)
        weights[:] = rng.uniform(0.5, 1, len(weights)) * background
        weights[others] = rng.uniform(background, 1.5, len(others))
        weights[options[answer]] = 1.0
    else:
        weights[others] = 1.0
    return Question(str(rng.choice(QUESTIONS)), options, answer, weights)


def text_of(question: Question) -> str:
    """The question and its options in words, without the conversation form of a host."""
    return question_text(question.wording, [names()[option] for option in question.options])


def prompt_of(question: Question, finding: str = IMAGE) -> str:
    """The prompt that the demo's LLaVA is given, with `finding` in the place of its image marker."""
    return Llava().prompt(text_of(question)).replace(IMAGE, finding)


def in_words(question: Question, rng: np.random.Generator) -> str:
    """The findings of a question as a list of names in random order."""
    return ", ".join(names()[index] for index in rng.permutation(np.flatnonzero(question.weights)))


def text_questions(count: int, seed: int) -> list[tuple[str, str]]:
    """Prompts with one finding in words in place of the image, each with its right letter; diseases take turns as the answer."""
    asked = _questions(count, seed)
    return [(prompt_of(q, names()[q.options[q.answer]]), LETTERS[q.answer]) for q in asked]


def _questions(count: int, seed: int) -> list[Question]:
    """Questions with one finding, of which diseases take turns."""
    rng = np.random.default_rng([seed, 2])
    questions = []
    for number in range(count):
        answer = number % len(names())
        others = rng.choice(np.delete(np.arange(len(names())), answer), 3, replace=False)
        position = int(rng.integers(4))
        options = tuple(int(index) for index in np.insert(others, position, answer))
        questions.append(Question(str(rng.choice(QUESTIONS)), options, position, np.eye(len(names()))[answer]))
    return questions


@torch.inference_mode()
def text_only_accuracy(model: nn.Module, tokenizer: Any, count: int = 448, seed: int = 0) -> float:
    """Share of text-only questions answered right by the most probable letter, over all disease names (chance 0.25).

    Args:
        model: a causal language model, or a LLaVA, which is then given text without an image.
        tokenizer: its tokenizer, or a processor that has one.
        count: number of questions.
        seed: seed of the questions; one of them is a training question only by chance.
    """
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    prompts, answers = zip(*text_questions(count, seed), strict=True)
    letters = letter_ids(tokenizer, prompts[0], [Llava().answer(letter) for letter in LETTERS])
    return _share_right(model, [list(ids) for ids in tokenizer(list(prompts))["input_ids"]], letters, answers)


def image_word(host: Host) -> str:
    """The word of a family's prompt in whose place the image stands; empty where the image stands in front of all text."""
    return (re.findall(r"<[\w ]+>", host.marker) or [""])[0]


def ids_in_words(tokenizer: Any, host: Host, question: Question, finding: str) -> list[int]:
    """Token ids of a question in the family's own conversation form, with the finding in words in the image's place."""
    image, prompt = image_word(host), host.prompt(text_of(question))
    before: list[int] = [] if image else tokenizer(finding, add_special_tokens=False)["input_ids"]
    asked: list[int] = tokenizer(prompt.replace(image, finding) if image else prompt)["input_ids"]
    return before + asked


@torch.inference_mode()
def reads_in_words(loaded: LoadedHost, count: int = 448, seed: int = 0) -> float:
    """Share of questions that a host of any family answers right when the finding stands in words in its image's place.

    Chance is 0.25. The questions are those of `text_only_accuracy`, in the family's own conversation form and through its own
    tokenizer. A family without a marker in its prompt has the image, and here the words, in front of all text.
    """
    host, tokenizer = loaded.host, loaded.processor.tokenizer
    asked = _questions(count, seed)
    rows = [ids_in_words(tokenizer, host, question, names()[question.options[question.answer]]) for question in asked]
    letters = letter_ids(tokenizer, host.prompt(text_of(asked[0])), [host.answer(letter) for letter in LETTERS])
    # a model that insists on an image has a language model that does not
    model = loaded.model.language_model if host.second_text else loaded.model
    return _share_right(model, rows, letters, [LETTERS[question.answer] for question in asked])


def _share_right(model: Any, rows: Sequence[list[int]], letters: tuple[int, ...], answers: Sequence[str]) -> float:
    """Share of rows of token ids after which the most probable of the four letters is the answer."""
    device, right = next(model.parameters()).device, 0
    # of a large vocabulary the logits of all positions would take longer than the model
    last = {"logits_to_keep": torch.tensor([-1])} if "logits_to_keep" in signature(model.forward).parameters else {}
    for start in range(0, len(rows), 64):
        batch = rows[start : start + 64]
        longest = max(map(len, batch))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in batch], device=device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in batch], device=device)
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, **last).logits[:, -1]
        chosen = logits[:, list(letters)].argmax(-1).tolist()
        right += sum(LETTERS[i] == answer for i, answer in zip(chosen, answers[start : start + 64], strict=True))
    return right / len(rows)
