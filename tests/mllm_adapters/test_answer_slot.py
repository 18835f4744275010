"""The letters' tokens where the answer stands."""

import pytest
from transformers import LlavaProcessor

from mllm_adapters.hosts.registry import get_host
from mllm_adapters.prompting.answer_slot import letter_ids

HOST = get_host("llava")
LETTERS = [HOST.answer(letter) for letter in "ABCD"]


@pytest.fixture(scope="module")
def tokenizer(host_directory):
    return LlavaProcessor.from_pretrained(host_directory).tokenizer


def test_letters_are_those_of_the_answers_place(tokenizer) -> None:
    prompt = HOST.prompt("What?\nA. w\nB. x\nC. y\nD. z")
    ids = letter_ids(tokenizer, prompt, LETTERS)
    assert tokenizer.convert_ids_to_tokens(ids) == ["ĠA", "ĠB", "ĠC", "ĠD"]
    assert ids != letter_ids(tokenizer, prompt)  # a letter without its space is another token
    for letter, token in zip(LETTERS, ids, strict=True):
        assert tokenizer(prompt + letter)["input_ids"] == [*tokenizer(prompt)["input_ids"], token]


def test_a_letter_of_two_tokens_is_refused(tokenizer) -> None:
    with pytest.raises(ValueError, match="' E' is not exactly one token"):
        letter_ids(tokenizer, "ASSISTANT:", [" A", " E"])


def test_a_letter_that_merges_with_the_prompt_is_refused(tokenizer) -> None:
    with pytest.raises(ValueError, match="no token of its own"):
        letter_ids(tokenizer, "ASSISTANT: ", "ABCD")  # the prompt's space and the letter become one token


def test_letters_must_differ(tokenizer) -> None:
    with pytest.raises(ValueError, match="share a token"):
        letter_ids(tokenizer, "ASSISTANT:", [" A", " A"])
