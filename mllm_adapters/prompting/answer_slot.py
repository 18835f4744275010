"""Token ids of answers at the exact place where the model answers."""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mgll.vocabulary.questions import LETTERS
from mllm_adapters.contract.host import Host

if TYPE_CHECKING:
    from torch import Tensor


def letter_ids(tokenizer: Any, prompt: str, letters: Sequence[str] = LETTERS) -> tuple[int, ...]:
    """Token ids of the letters right after the prompt, found by tokenising prompt and prompt + letter.

    A letter alone often has another id than the same letter after a prompt (`A` and ` A`), therefore no id is looked up in the
    vocabulary. Pass `[host.answer(letter) for letter in LETTERS]` to have the letters in the host's own form.

    Raises:
        ValueError: if a letter is not exactly one token there, or two letters are the same token.
    """
    found = []
    for letter, ids in zip(letters, continuation_ids(tokenizer, prompt, letters), strict=True):
        if len(ids) != 1:
            tail = tokenizer.convert_ids_to_tokens(ids)
            raise ValueError(f"{letter!r} is not exactly one token after {prompt[-20:]!r}: it becomes {tail}")
        found.append(ids[0])
    if len(set(found)) != len(found):
        raise ValueError(f"letters {list(letters)} share a token after the prompt: ids {found}")
    return tuple(found)


def continuation_ids(tokenizer: Any, prompt: str, answers: Sequence[str]) -> list[list[int]]:
    """Token ids of each answer right after the prompt.

    Raises:
        ValueError: if an answer adds no token to the prompt, or changes the tokens of the prompt before it.
    """
    before, *after = plain_ids(tokenizer, [prompt, *(prompt + answer for answer in answers)])
    for answer, ids in zip(answers, after, strict=True):
        if len(ids) <= len(before) or ids[: len(before)] != before:
            tail = tokenizer.convert_ids_to_tokens(ids[max(0, len(before) - 2) :])
            raise ValueError(
                f"{answer!r} has no token of its own after the prompt, which ends in {prompt[-20:]!r}; together they end in {tail}"
            )
    return [ids[len(before) :] for ids in after]


def plain_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts, without the end-of-sequence token that some tokenizers put at the end of every text."""
    found = [list(ids) for ids in tokenizer(list(texts))["input_ids"]]
    end = getattr(tokenizer, "eos_token_id", None)
    return [ids[:-1] if ids and ids[-1] == end else ids for ids in found]


def decoder_start(config: Any) -> int | None:
    """First token of the decoder in an encoder-decoder model; None for a decoder-only model, whose answer follows the prompt."""
    text = config.get_text_config()
    return int(text.decoder_start_token_id) if text.is_encoder_decoder else None


def forward_options(model: Any, host: Host, attention_mask: "Tensor", keep: int) -> dict[str, Any]:
    """Options of the forward pass, the same in training and in scoring, so that both read the answer at the same place.

    Args:
        model: an instance of the host's class.
        host: spec of the model's family.
        attention_mask: mask of the prompts [B, length]; positions are counted from the first token that is no padding.
        keep: how many of the last positions are read; a model that can do so computes logits for no others.
    """
    options: dict[str, Any] = {"use_cache": False}
    if host.position_axes == 1 and decoder_start(model.config) is None:
        options["position_ids"] = (attention_mask.cumsum(-1) - 1).clamp_min(0)
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        on_cpu = attention_mask.device.type == "cpu"
        # a CPU multiplies each row of a slice by its own copy of the word table; listed positions are gathered first
        options["logits_to_keep"] = attention_mask.new_tensor(range(-keep, 0)).long() if on_cpu else keep
    return options
