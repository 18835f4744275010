"""Rows of a model's embeddings, and whether tokens that are used have one; a token without one ends in an IndexError in the model.

Only used ones are looked at: published tokenizers have tokens, such as one for padding, that stand in no prompt and have no row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgll.formats import FormatError
from mllm_adapters.contract.host import LoadedHost


@dataclass(frozen=True)
class TokenRows:
    """Rows of a model's embeddings.

    Attributes:
        directory: the checkpoint, for messages.
        processor: its processor, whose tokenizers give the ids.
        rows: their number by the input whose token ids they are looked up for.
        replaced: number of a token that the model replaces by another before it looks up rows.
    """

    directory: Path
    processor: Any
    rows: dict[str, int]
    replaced: int | None

    def check(self, inputs: Mapping[str, Sequence[int]]) -> None:
        """Check the token ids among a model's text inputs; other inputs are passed over.

        Raises:
            FormatError: naming the token with the highest number, if it is beyond the last row.
        """
        for name, rows in self.rows.items():
            highest = max((number for number in inputs.get(name, ()) if number != self.replaced), default=0)
            if highest < rows:
                continue
            tokenizer = getattr(self.processor, name.replace("input_ids", "tokenizer"))
            raise FormatError(
                self.directory,
                None,
                f"its tokenizer gives {tokenizer.convert_ids_to_tokens(highest)!r} the number {highest}, its embeddings have"
                f" {rows} rows: tokenizer and weights are not of the same checkpoint; put the tokenizer's files there that belong"
                " to these weights",
            )

    @property
    def padding(self) -> int:
        """Number of the token that fills up inputs, which no model looks at: the tokenizer's own where it has a row, else 0."""
        own = self.processor.tokenizer.pad_token_id
        return int(own) if own is not None and own < self.rows["input_ids"] else 0


def token_rows(loaded: LoadedHost) -> TokenRows:
    """The rows of a model's embeddings; the model may be on the meta device."""
    # the name of a second text encoder stands before that of its input
    encoders = {name: name.removesuffix("input_ids").rstrip("_") for name in ("input_ids", *loaded.host.second_text)}
    rows = {
        name: int(loaded.model.get_submodule(encoder).get_input_embeddings().num_embeddings)
        for name, encoder in encoders.items()
        if name.endswith("input_ids")
    }
    replaced = loaded.model.config.image_token_id if loaded.host.replaces_image_token else None
    return TokenRows(loaded.directory, loaded.processor, rows, replaced)
