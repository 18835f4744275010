"""Where tensors lie in safetensors files: read from the headers alone, without torch and without the tensors' bytes.

Every header is checked by safetensors' own reader before anything in it is believed: byte ranges that overlap, leave gaps or do not
fit shape and dtype, unknown dtypes, bytes behind the last tensor.
"""

import json
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgll.formats import FormatError

#: Bytes. The headers of the largest published shards have less than a tenth of this; safetensors' own limit of 100 MB costs a GB.
LONGEST_HEADER = 16 * 2**20


@dataclass(frozen=True)
class Stored:
    """The place of a tensor in a safetensors file: file, dtype (as safetensors names it), shape, first and last-plus-one byte."""

    shard: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        """Size of the tensor in bytes."""
        return self.end - self.start


def read_stored(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """The tensors of one safetensors file in the order of their bytes, and its metadata.

    Raises:
        FormatError: if it is not a whole safetensors file, or its header contradicts itself or the file.
    """
    # here, because safetensors takes a moment to import
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FormatError(path, None, "no such file of tensors")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size < 8:
                raise ValueError(f"it has {size} bytes")
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size - 8:
                raise ValueError("cut short or damaged: its header is longer than the file")
            if length > LONGEST_HEADER:
                raise ValueError(f"its header has {length} bytes, more than {LONGEST_HEADER} are not read")
            text = file.read(length)
        with safe_open(path, framework="numpy"):
            pass  # opening checks the header, by safetensors' own rules
        header = json.loads(text, object_pairs_hook=_without_repetition)
        metadata = header.pop("__metadata__", None) or {}
        found = {
            name: Stored(path, item["dtype"], tuple(item["shape"]), *(8 + length + at for at in item["data_offsets"]))
            for name, item in sorted(header.items(), key=lambda pair: pair[1]["data_offsets"])
        }
    except (ValueError, RecursionError, struct.error, SafetensorError) as error:
        said = str(error).replace("file not fully covered", "the file is cut short, or longer than its header says")
        raise FormatError(path, None, f"not a whole safetensors file ({said})") from None
    return found, metadata


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; safetensors would take the last of two entries of one name, another reader the first."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"its header has {twice!r} twice")
    return found
