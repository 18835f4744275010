"""Qwen-VL's tokenizer as files that transformers reads without remote code.

The published file `qwen.tiktoken` holds the byte pairs only; pattern, special tokens and their order stand in the remote code. The
order decides the ids: special tokens come right after the byte pairs, so `<imgpad>` is 151859.
"""

import base64
import binascii
import json
import tempfile
from pathlib import Path

from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from mgll.formats import FormatError
from mllm_adapters.checkpoints.json_files import Json

BYTE_PAIRS = "qwen.tiktoken"
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
IMAGE_START, IMAGE_END, IMAGE_PLACE = "<img>", "</img>", "<imgpad>"
_SPARE = tuple(f"<|extra_{i}|>" for i in range(205))
_PLACES = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")
SPECIAL = (END_OF_TEXT, TURN_START, TURN_END, *_SPARE, *_PLACES, IMAGE_START, IMAGE_END, IMAGE_PLACE)
#: Contractions, words with one sign before them, single digits, runs of signs, line ends, spaces.
PATTERN = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


def read_byte_pairs(path: Path) -> dict[bytes, int]:
    """Read the tokens of a tiktoken file with their ranks, which are their ids.

    Raises:
        FormatError: if a line is not base64 and a number, or the ranks are not 0, 1, 2, ...
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise FormatError(path, number, "not a token in base64 and its rank") from None
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise FormatError(path, None, "its ranks are not 0, 1, 2, ...: cut short or damaged")
    return ranks


class _Converter(TikTokenConverter):
    """The converter of transformers, but it reads the file without the tiktoken package."""

    @staticmethod
    def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
        return read_byte_pairs(Path(tiktoken_url))


def tokenizer_from(path: Path) -> PreTrainedTokenizerFast:
    """Build the fast tokenizer of a tiktoken file; an answer ends with the end of its turn.

    Raises:
        FormatError: if the file is damaged.
    """
    fast = _Converter(str(path), pattern=PATTERN, extra_special_tokens=list(SPECIAL)).converted()
    fast.normalizer = normalizers.NFC()
    return PreTrainedTokenizerFast(
        tokenizer_object=fast, eos_token=TURN_END, pad_token=END_OF_TEXT, clean_up_tokenization_spaces=False
    )


def tokenizer_files(path: Path) -> dict[str, Json]:
    """The JSON files of the tokenizer that `tokenizer_from` builds, by name.

    Raises:
        FormatError: if the file is damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        tokenizer_from(path).save_pretrained(folder)
        files = sorted(Path(folder).glob("*.json"))
        return {file.name: json.loads(file.read_text(encoding="utf-8")) for file in files}
