"""Four-option questions for the demo decoder, and the share that it answers right from text alone."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from mgll.vocabulary.questions import LETTERS, QUESTIONS, question_text
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


def draw_question(rng: np.random.Generator, spread: bool) -> Question:
    """Draw a question over all disease names.

    Without `spread` one to three findings are equally present, and one of them is an option. With `spread` every finding is present
    to some degree, as in the output of a tower that is not sure, and the strongest option is the answer.
    """
    order = rng.permutation(len(names()))
    options, answer = tuple(int(index) for index in order[:4]), int(rng.integers(4))
    weights = np.zeros(len(names()))
    others = order[4 : 4 + int(rng.integers(0, 3))]
    weights[options[answer]] = 1.0
    if spread:
        background = rng.uniform(0, 0.8)
        weights[:] = rng.uniform(0.5, 1, len(weights)) * background
        weights[others] = rng.uniform(background, 1.5, len(others))
        weights[options[answer]] = 1.0
    else:
        weights[others] = 1.0
    return Question(str(rng.choice(QUESTIONS)), options, answer, weights)


def prompt_of(question: Question, finding: str = IMAGE) -> str:
    """The prompt that the demo's LLaVA is given, with `finding` in the place of its image marker."""
    text = question_text(question.wording, [names()[option] for option in question.options])
    return Llava().prompt(text).replace(IMAGE, finding)


def in_words(question: Question, rng: np.random.Generator) -> str:
    """The findings of a question as a list of names in random order."""
    return ", ".join(names()[index] for index in rng.permutation(np.flatnonzero(question.weights)))


def text_questions(count: int, seed: int) -> list[tuple[str, str]]:
    """Prompts with one finding in words in place of the image, each with its right letter; diseases take turns as the answer."""
    rng = np.random.default_rng([seed, 2])
    questions = []
    for number in range(count):
        answer = number % len(names())
        others = rng.choice(np.delete(np.arange(len(names())), answer), 3, replace=False)
        position = int(rng.integers(4))
        options = tuple(int(index) for index in np.insert(others, position, answer))
        question = Question(str(rng.choice(QUESTIONS)), options, position, np.eye(len(names()))[answer])
        questions.append((prompt_of(question, names()[answer]), LETTERS[position]))
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
    questions = text_questions(count, seed)
    letters = list(letter_ids(tokenizer, questions[0][0], [Llava().answer(letter) for letter in LETTERS]))
    device, right = next(model.parameters()).device, 0
    for start in range(0, count, 64):
        prompts, answers = zip(*questions[start : start + 64], strict=True)
        inputs = tokenizer(list(prompts), padding=True, padding_side="left", return_tensors="pt").to(device)
        mask = inputs["attention_mask"]
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        logits = model(input_ids=inputs["input_ids"], attention_mask=mask, position_ids=positions).logits[:, -1]
        chosen = logits[:, letters].argmax(-1).tolist()
        right += sum(LETTERS[index] == answer for index, answer in zip(chosen, answers, strict=True))
    return right / count
