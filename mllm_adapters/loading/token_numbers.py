"""Whether every token has a row in the embeddings; one that has none ends in an IndexError in the middle of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgll.formats import FormatError
from mgll.weights.model_folder import read_json


def check_token_numbers(directory: Path, model: Any, numbers: Mapping[str, int]) -> None:
    """Compare the numbers of tokens with the rows of a model's embeddings.

    Args:
        directory: the checkpoint, for messages.
        model: the model, which may be on the meta device.
        numbers: number of each token.

    Raises:
        FormatError: naming the token with the highest number, if it is beyond the last row.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if beyond := {token: number for token, number in numbers.items() if number >= rows}:
        token, number = max(beyond.items(), key=lambda item: item[1])
        raise FormatError(
            directory,
            None,
            f"its tokenizer gives {token!r} the number {number}, its embeddings have {rows} rows (tokens without one:"
            f" {len(beyond)}): tokenizer and weights are not of the same checkpoint; download its tokenizer files again",
        )


def added_numbers(directory: Path) -> dict[str, int]:
    """Numbers of the tokens that tokenizer.json adds to its vocabulary; none where there is no such file.

    Raises:
        FormatError: if it is damaged.
    """
    path = directory / "tokenizer.json"
    added = read_json(path).get("added_tokens") if path.is_file() else None
    if added is None:
        return {}
    try:
        return {str(token["content"]): int(token["id"]) for token in added}
    except (TypeError, KeyError, ValueError):
        raise FormatError(path, None, "its added_tokens are no list of tokens with content and id") from None
