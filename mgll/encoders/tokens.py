"""Texts as tokens: made once before training, so that a step only picks and pads them."""

import warnings
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

#: Texts that are tokenised at a time: their tokens are Python's numbers for a moment, thirty bytes each.
AT_ONCE = 16_384


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

    def lengths_of(self, texts: Tensor) -> Tensor:
        """Tokens of the texts with these indices [B]."""
        return self.bounds[texts + 1] - self.bounds[texts]

    def batch(self, texts: Tensor, length: int | None = None) -> tuple[Tensor, Tensor]:
        """Token ids and mask, both [B, L], of the texts with these indices [B], padded on the right.

        Args:
            texts: indices of the texts.
            length: what they are padded to, at least their longest, which it is if None.
        """
        lengths = self.lengths_of(texts)
        mask = torch.arange(length or int(lengths.max())) < lengths.unsqueeze(1)
        ids = torch.full(mask.shape, self.pad)
        before = lengths.cumsum(0) - lengths
        places = torch.arange(int(lengths.sum())) + (self.bounds[texts] - before).repeat_interleave(lengths)
        ids[mask] = self.ids[places].long()
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
    ids, bounds, full = array("i"), [0], 0
    empty: list[str] = []
    for start in tqdm(range(0, len(texts), AT_ONCE), "tokenising texts", delay=3, unit_scale=AT_ONCE, unit=" texts"):
        own = list(texts[start : start + AT_ONCE])
        rows = tokenizer(own, truncation=True, max_length=longest, return_attention_mask=False)["input_ids"]
        empty += [text for text, row in zip(own, rows, strict=True) if not row]
        for row in rows:
            ids.extend(row)
            bounds.append(len(ids))
        full += sum(len(row) == longest for row in rows)
    if empty:
        raise ValueError(
            f"{len(empty)} of {len(texts)} texts have no token for this text encoder, such as {empty[0]!r}"
        )
    if full:
        warnings.warn(f"{full} of {len(texts)} texts fill all {longest} tokens; what is beyond is cut", stacklevel=2)
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    return Tokens(torch.tensor(np.frombuffer(ids, np.intc), dtype=torch.int32), torch.tensor(bounds), pad)
