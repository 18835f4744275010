"""Where tensors lie in safetensors files: read from the headers alone, without torch and without the tensors' bytes."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from mgll.formats import FormatError


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
        FormatError: if it is not a whole safetensors file.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size - 8:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        metadata = dict(header.pop("__metadata__", {}))
        base = 8 + length
        found = {
            name: Stored(path, item["dtype"], tuple(item["shape"]), *(base + offset for offset in item["data_offsets"]))
            for name, item in sorted(header.items(), key=lambda pair: pair[1]["data_offsets"])
        }
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise FormatError(path, None, f"not a whole safetensors file ({error})") from None
    size, end = path.stat().st_size, max((stored.end for stored in found.values()), default=base)
    if size != end:
        raise FormatError(
            path, None, f"not a whole safetensors file (cut short or damaged: {size} bytes, its header says {end})"
        )
    return found, metadata
