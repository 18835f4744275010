"""Which token is the answer letter, at the very place where the model answers."""

from collections.abc import Sequence
from typing import Any


def letter_ids(tokenizer: Any, prompt: str, letters: Sequence[str] = "ABCD") -> tuple[int, ...]:
    """Token ids of the letters right after the prompt, found by tokenising prompt and prompt + letter.

    A letter alone often has another id than the same letter in its place (`A` and ` A`), so nothing is looked up. Pass
    `[host.answer(letter) for letter in "ABCD"]` to have the letters in the host's own form.

    Raises:
        ValueError: if a letter is not exactly one token there, or two letters are the same token.
    """
    texts = [prompt, *(prompt + letter for letter in letters)]
    before, *after = (list(ids) for ids in tokenizer(texts)["input_ids"])
    if before and before[-1] == getattr(tokenizer, "eos_token_id", None):  # some tokenizers close every text
        before, after = before[:-1], [ids[:-1] for ids in after]
    found = []
    for letter, ids in zip(letters, after, strict=True):
        if len(ids) != len(before) + 1 or ids[:-1] != before:
            tail = tokenizer.convert_ids_to_tokens(ids[max(0, len(before) - 2) :])
            raise ValueError(
                f"{letter!r} is not exactly one token after the prompt (which ends in {prompt[-20:]!r}): the text ends in {tail}"
            )
        found.append(ids[-1])
    if len(set(found)) != len(found):
        raise ValueError(f"letters {list(letters)} share a token after the prompt: ids {found}")
    return tuple(found)
