"""Prompts as rows of a batch: whole, for hosts whose image tokens depend on the prompt, and for writing replies.

Replies to prompts that begin alike go on from one pass over their common start, where `generate` can do so.
Where the host allows it, the frozen tower still sees every image only once: its output is passed in the place of pixels, and a
module that hands this output on (`Host.replay`) takes the place of the tower.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.prompts import EncodedPrompts
from mllm_adapters.prompting.answer_slot import decoder_start, forward_options
from mllm_adapters.prompting.fitting import as_many_as_fit
from mllm_adapters.prompting.token_rows import token_rows

#: Replies that are written at once. A decoder keeps keys and values of all their tokens: 12 GB for 32 prompts of 700 tokens in a
#: LLaVA of 7B, and more than a card has for eight cases in 24 orders.
WRITTEN_AT_ONCE = 32

#: A case, the number of its prompt, and token ids that follow this prompt.
Row = tuple[EncodedPrompts, int, tuple[int, ...]]


def row_log_probs(
    loaded: LoadedHost, encoded: Sequence[EncodedPrompts], continuations: Sequence[Sequence[Sequence[Sequence[int]]]]
) -> list[list[list[Tensor]]]:
    """Log-probabilities of each continuation's tokens after each prompt, and of all tokens right after the prompt, for any host.

    Args:
        loaded: the model.
        encoded: prompts of each case.
        continuations: [case][prompt][continuation] token ids.

    Returns:
        [case][prompt] list of float32 tensors on the CPU: first that of the whole vocabulary right after the prompt [V], then for
        every continuation its tokens' [length].
    """
    rows, keep = [], 1
    for case, wanted in zip(encoded, continuations, strict=True):
        for prompt, follows in enumerate(wanted):
            for before_last in dict.fromkeys([(), *(tuple(ids[:-1]) for ids in follows)]):
                rows.append((case, prompt, before_last))
                keep = max(keep, len(before_last) + 1)
    logits = dict(zip([(id(case), *rest) for case, *rest in rows], _forward(loaded, rows, keep), strict=True))
    return [
        [
            [
                logits[id(case), prompt, ()][-1].log_softmax(-1),
                *(_of(logits[id(case), prompt, tuple(ids[:-1])], ids) for ids in follows),
            ]
            for prompt, follows in enumerate(wanted)
        ]
        for case, wanted in zip(encoded, continuations, strict=True)
    ]


def _of(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Log-probabilities of a continuation's tokens from logits whose last row predicts its last token."""
    return logits[-len(ids) :].log_softmax(-1)[range(len(ids)), list(ids)]


def replies(
    loaded: LoadedHost, encoded: Sequence[EncodedPrompts], max_new_tokens: int, **decoding: Any
) -> list[list[str]]:
    """Generate a reply after each prompt of each case: greedily, unless `decoding` (options of `generate`) says otherwise.

    Returns:
        [case][prompt] the reply as text, without special tokens.
    """
    rows: list[Row] = [(case, prompt, ()) for case in encoded for prompt in range(len(case.prompts))]
    write = partial(_write, loaded, max_new_tokens=max_new_tokens, decoding=decoding)
    shared = _start_can_be_shared(loaded, encoded)
    with _tower_out_of_the_way(loaded, [] if shared else encoded) as images:

        def some(block: Sequence[Row]) -> list[str]:
            return write(_after_common_start(loaded, block) if shared else _inputs(loaded, block, images))

        texts: list[str] = []
        for first in range(0, len(rows), WRITTEN_AT_ONCE):
            texts += as_many_as_fit(loaded.model, "replies", some, rows[first : first + WRITTEN_AT_ONCE])
    said = iter(texts)
    return [[next(said) for _ in case.prompts] for case in encoded]


def _write(loaded: LoadedHost, inputs: dict[str, Any], max_new_tokens: int, decoding: Mapping[str, Any]) -> list[str]:
    """The replies to some rows, all of which are written at once."""
    tokenizer, asked = loaded.processor.tokenizer, inputs["input_ids"]
    # rows that end early are padded with a token that decoding leaves out, or the reply would depend on the batch
    pad = token_rows(loaded).padding
    pad = pad if pad == tokenizer.pad_token_id else tokenizer.eos_token_id
    options: dict[str, Any] = {
        "do_sample": False,
        "eos_token_id": _stops(loaded.model, tokenizer),
        "pad_token_id": pad,
        **decoding,
    }
    said = loaded.model.generate(**inputs, max_new_tokens=max_new_tokens, **options)
    # encoder-decoders give the answer alone
    goes_on = said.shape[1] >= asked.shape[1] and torch.equal(said[:, : asked.shape[1]], asked)
    texts = tokenizer.batch_decode(said[:, asked.shape[1] :] if goes_on else said, skip_special_tokens=True)
    return [text.strip() for text in texts]


def _start_can_be_shared(loaded: LoadedHost, encoded: Sequence[EncodedPrompts]) -> bool:
    """Whether prompts begin alike, and transformers' own `generate` can go on from the keys and values of their common start."""
    # here, because transformers takes seconds to import
    from transformers import GenerationMixin

    host, model = loaded.host, loaded.model
    able = not host.whole_prompts and host.position_axes == 1 and decoder_start(model.config) is None
    return (
        able
        and type(model).generate is GenerationMixin.generate
        and any(len(case.prompts) > 1 for case in encoded)
        and all(case.image and case.shared for case in encoded)
    )


def _after_common_start(loaded: LoadedHost, rows: Sequence[Row]) -> dict[str, Any]:
    """What `generate` goes on from: the start of each case in keys and values, read once, and the ends of its prompts."""
    cases = list({id(case): case for case, _, _ in rows}.values())
    device, pad = loaded.model.device, token_rows(loaded).padding
    starts = [case.ids[0][: case.shared] for case in cases]
    ids, seen = padded(starts, pad, behind=False), padded([[1] * len(start) for start in starts], 0, behind=False)
    images = {name: torch.cat([case.image[name] for case in cases]).to(device) for name in cases[0].image}
    inputs = {"input_ids": ids.to(device), "attention_mask": seen.to(device)}
    options = forward_options(loaded.model, loaded.host, inputs["attention_mask"], keep=1) | {"use_cache": True}
    kept = loaded.model(**inputs, **images, **options).past_key_values
    number = {id(case): index for index, case in enumerate(cases)}
    of_row = torch.tensor([number[id(case)] for case, _, _ in rows])
    kept.batch_select_indices(of_row.to(device))
    ends = [case.ids[prompt][case.shared :] for case, prompt, _ in rows]
    whole = torch.cat((ids[of_row], padded(ends, pad, behind=False)), dim=1)
    mask = torch.cat((seen[of_row], padded([[1] * len(end) for end in ends], 0, behind=False)), dim=1)
    return {"input_ids": whole.to(device), "attention_mask": mask.to(device), "past_key_values": kept}


def _stops(model: Any, tokenizer: Any) -> list[int] | None:
    """Tokens that end decoding: those that the checkpoint names and, since some checkpoints name a wrong one, the tokenizer's."""
    own = model.generation_config.eos_token_id
    found = {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id} - {None}
    return sorted(found) or None


def _forward(loaded: LoadedHost, rows: Sequence[Row], keep: int) -> list[Tensor]:
    """Float32 logits [1 + length of what follows the prompt, V] of each row, on the CPU."""
    cases = list({id(case): case for case, _, _ in rows}.values())
    with _tower_out_of_the_way(loaded, cases) as images:
        inputs = _inputs(loaded, rows, images)
        start = decoder_start(loaded.model.config)
        if start is not None:
            padded = [[start, *after, *[start] * (keep - 1 - len(after))] for _, _, after in rows]
            inputs["decoder_input_ids"] = torch.tensor(padded, device=inputs["input_ids"].device)
        options = forward_options(loaded.model, loaded.host, inputs["attention_mask"], keep)
        logits = loaded.model(**inputs, **options).logits[:, -keep:].float().cpu()
    if start is not None:  # padded on the right: the logits that are wanted come first
        return [row[: 1 + len(after)] for row, (_, _, after) in zip(logits, rows, strict=True)]
    return [row[keep - 1 - len(after) :] for row, (_, _, after) in zip(logits, rows, strict=True)]


def _inputs(
    loaded: LoadedHost,
    rows: Sequence[Row],
    images: Mapping[int, dict[str, Tensor]],
) -> dict[str, Tensor]:
    """The rows padded on the left (the texts of a second encoder on the right), with the images of each."""
    decodes_apart = decoder_start(loaded.model.config) is not None
    texts = []
    for case, prompt, after in rows:
        further = [] if decodes_apart else list(after)
        ids = case.ids[prompt] + further
        text = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        for name, values in case.beside.items():
            text[name] = values[prompt] + (
                []
                if name in loaded.host.second_text
                else [loaded.host.behind_prompt(name, values[prompt][-1])] * len(further)
            )
        texts.append(text)
    pads = dict.fromkeys(texts[0], 0) | {"input_ids": token_rows(loaded).padding}
    inputs = {name: padded([t[name] for t in texts], pads[name], name in loaded.host.second_text) for name in pads}
    shown = [images[id(case)] for case, _, _ in rows]
    inputs |= {name: torch.cat([image[name] for image in shown]) for name in shown[0]}
    return {name: value.to(loaded.model.device) for name, value in inputs.items()}


def padded(rows: Sequence[list[Any]], pad: int, behind: bool) -> Tensor:
    """Rows [length, ...] of equal or unequal lengths as one tensor, padded in front or behind."""
    found, length = [torch.tensor(row) for row in rows], max(map(len, rows))
    fills = [row.new_full((length - len(row), *row.shape[1:]), pad) for row in found]
    return torch.stack(
        [torch.cat((row, fill) if behind else (fill, row)) for row, fill in zip(found, fills, strict=True)]
    )


@contextmanager
def _tower_out_of_the_way(
    loaded: LoadedHost, cases: Sequence[EncodedPrompts]
) -> Iterator[dict[int, dict[str, Tensor]]]:
    """Yield image inputs by the `id` of their case; where the host allows it, with the tower's output in the place of pixels."""
    host, model = loaded.host, loaded.model
    images = {id(case): dict(case.image) for case in cases}
    if all(len(case.prompts) == 1 for case in cases):
        yield images
        return
    tower = model.get_submodule(host.tower)
    for image in images.values():
        moved = {name: value.to(model.device) for name, value in image.items()}
        features = host.encode(tower, model.config, moved)
        if (
            features is not None
        ):  # where the tower's output cannot be kept, `replay` gives the tower back and the pixels stay
            image["pixel_values"] = features
    model.set_submodule(host.tower, host.replay(tower, model.config))
    try:
        yield images
    finally:
        model.set_submodule(host.tower, tower)
