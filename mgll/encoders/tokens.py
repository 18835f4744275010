"""Texts as tokens: made once before training, so that a step only picks and pads them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Tokens:
    """The tokens of many texts in one array.

    Attributes:
        ids: the token ids of all texts, one text after the other [T].
        bounds: text i has `ids[bounds[i] : bounds[i + 1]]` [texts + 1].
        pad: the id that fills up a batch; the mask hides it.
    """

    ids: Tensor
    bounds: Tensor
    pad: int

    @property
    def lengths(self) -> Tensor:
        """Tokens of each text [texts]."""
        return self.bounds.diff()

    def batch(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids and mask, both [B, L], of the texts with these indices [B], padded on the right to the longest of them."""
        starts, ends = self.bounds[texts].tolist(), self.bounds[texts + 1].tolist()
        own = [self.ids[start:end] for start, end in zip(starts, ends, strict=True)]
        ids = pad_sequence([part.long() for part in own], batch_first=True, padding_value=self.pad)
        mask = torch.arange(ids.shape[1]) < self.lengths[texts].unsqueeze(1)
        return ids, mask.long()


def tokenise(texts: Sequence[str], tokenizer: Any, longest: int) -> Tokens:
    """Tokens of texts, with the special tokens that the tokenizer adds.

    Args:
        texts: strings.
        tokenizer: a tokenizer of transformers.
        longest: largest number of tokens that a text may have; a warning says how many texts are cut there.

    Raises:
        ValueError: for a text without a token.
    """
    rows = tokenizer(list(texts), truncation=True, max_length=longest, return_attention_mask=False)["input_ids"]
    if empty := [text for text, row in zip(texts, rows, strict=True) if not row]:
        raise ValueError(
            f"{len(empty)} of {len(texts)} texts have no token for this text encoder, such as {empty[0]!r}"
        )
    if full := sum(len(row) == longest for row in rows):
        warnings.warn(f"{full} of {len(texts)} texts fill all {longest} tokens; what is beyond is cut", stacklevel=2)
    bounds = torch.tensor([0, *map(len, rows)]).cumsum(0)
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    return Tokens(torch.tensor([i for row in rows for i in row], dtype=torch.int32), bounds, pad)
