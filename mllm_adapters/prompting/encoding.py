"""Several prompts about one image as token ids, with the image encoded once."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.prompts import EncodedPrompts
from mllm_adapters.contract.terms import HostError
from mllm_adapters.prompting.answer_slot import plain_ids
from mllm_adapters.prompting.token_rows import token_rows


def encode_prompts(loaded: LoadedHost, image: Image.Image, prompts: Sequence[str]) -> EncodedPrompts:
    """Encode several prompts about one RGB image of any size.

    The processor encodes the first prompt with the image. Where the prompts differ only after the image, the others share its
    tokens up to there and get the tokens of their own ends. Where this is not possible (a second text encoder reads the prompt
    too), the processor runs for each prompt.

    Raises:
        FormatError: if a token has no row in the embeddings.
    """
    first = _encoded(loaded, image, prompts[0])
    images = {name: first[name] for name in loaded.processor.image_processor.model_input_names if name in first}
    rows = [_text(first, images)]
    if len(prompts) > 1:
        rows += _other_ends(loaded, rows[0], prompts) or [
            _text(_encoded(loaded, image if loaded.host.dynamic else Image.new("RGB", (32, 32)), prompt), images)
            for prompt in prompts[1:]
        ]
    known = token_rows(loaded)
    for row in rows:
        known.check(row)
    ids = tuple(row.pop("input_ids") for row in rows)
    beside = {name: tuple(row[name] for row in rows) for name in rows[0] if name != "attention_mask"}
    return EncodedPrompts(tuple(prompts), ids, images, beside)


def encode_text(loaded: LoadedHost, question: str) -> EncodedPrompts:
    """Encode a question that has no image, in the host's conversation form without the image's marker.

    Raises:
        FormatError: if a token has no row in the embeddings.
        HostError: if the family answers questions about images only.
    """
    host = loaded.host
    if not host.marker:
        raise HostError(f"{host.title} answers questions about images only; this one has none: {question[:80]!r}")
    prompt = host.prompt(question).replace(host.marker, "", 1)
    (ids,) = plain_ids(loaded.processor.tokenizer, [prompt])
    token_rows(loaded).check({"input_ids": ids})
    return EncodedPrompts((prompt,), (ids,), {}, {})


def _encoded(loaded: LoadedHost, image: Image.Image, prompt: str) -> dict[str, Any]:
    found = dict(loaded.processor(images=[image], text=[prompt], return_tensors="pt"))
    dtype = loaded.model.dtype
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in found.items()}


def _text(encoded: dict[str, Any], images: dict[str, Any]) -> dict[str, list[int]]:
    return {name: value[0].tolist() for name, value in encoded.items() if name not in images}


def _other_ends(
    loaded: LoadedHost, first: dict[str, list[int]], prompts: Sequence[str]
) -> list[dict[str, list[int]]] | None:
    """Derive the rows of all prompts but the first from the row of the first; None where this is not possible."""
    if loaded.host.second_text:
        return None
    plain = plain_ids(loaded.processor.tokenizer, prompts)
    shared = next((i for i, ids in enumerate(zip(*plain, strict=False)) if len(set(ids)) > 1), min(map(len, plain)))
    tail = plain[0][shared:]
    if not tail or first["input_ids"][-len(tail) :] != tail:
        return None
    rows = []
    for ids in plain[1:]:
        cut = {name: values[: -len(tail)] for name, values in first.items()}
        end = ids[shared:]
        rows.append(
            {
                name: values + (end if name == "input_ids" else first[name][-1:] * len(end))
                for name, values in cut.items()
            }
        )
    return rows
