"""The tokens of a run's texts, made once into a file of its folder that all its processes map into memory.

The file says of which tokenizer and texts it was made. Another tokenizer or other texts make it anew; it appears whole or not at
all, so that two processes that make it at the same time end with the same file.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mgll.encoders.text import TextEncoder
from mgll.encoders.tokens import Tokens
from mgll.files import atomic_path

NAME = "tokens.safetensors"


def tokens_from_file(path: Path, encoder: TextEncoder, texts: Sequence[str]) -> Tokens:
    """The tokens of texts, read from a file if it was made of the very same, else made and written there.

    Args:
        path: the file.
        encoder: the text encoder, whose tokenizer is asked.
        texts: the texts, each once.

    Raises:
        ValueError: as `TextEncoder.tokenise` does.
    """
    made_of = _made_of(encoder, texts)
    if (kept := _read(path, made_of)) is not None:
        return kept
    tokens = encoder.tokenise(texts)
    with atomic_path(path) as temporary:
        save_file({"ids": tokens.ids, "bounds": tokens.bounds}, temporary, {"made_of": made_of, "pad": str(tokens.pad)})
    return _read(path, made_of) or tokens  # the file's own, which other processes map too


def _made_of(encoder: TextEncoder, texts: Sequence[str]) -> str:
    """A hash over all that decides the tokens: texts, tokenizer, and the length at which texts are cut."""
    digest = hashlib.sha256()
    for part in (*_facts(encoder), *texts):
        content = part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def _facts(encoder: TextEncoder) -> list[str]:
    tokenizer: Any = encoder.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        whole = json.dumps([sorted(tokenizer.get_vocab().items()), tokenizer.init_kwargs], default=str, sort_keys=True)
    else:
        # what a call truncates and pads to is kept in the tokenizer, and is no part of it
        whole = json.dumps(json.loads(backend.to_str()) | {"truncation": None, "padding": None}, sort_keys=True)
    known = encoder.model.get_input_embeddings().num_embeddings  # `tokenise` refuses tokens beyond these
    return [type(tokenizer).__name__, whole, repr(tokenizer.special_tokens_map), f"{encoder.longest} {known}"]


def _read(path: Path, made_of: str) -> Tokens | None:
    """The tokens in a file, mapped into memory; None if there is no whole file that was made of the same."""
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
            if said.get("made_of") != made_of:
                return None
            return Tokens(file.get_tensor("ids"), file.get_tensor("bounds"), int(said["pad"]))
    except (OSError, SafetensorError, RuntimeError):  # the last is what safetensors says of a file that has just gone
        return None
