"""Checkpoints as bytes: safetensors headers, shards that are linked, shards that are rewritten without some of their tensors.

Nothing here builds a model or reads a shard whole; memory stays at one copying buffer.
"""

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mgll.formats import FormatError

if TYPE_CHECKING:
    from torch import Tensor

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
CHUNK = 16 * 2**20
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64"}


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies: shard, safetensors dtype, shape, and first and last-plus-one byte in the file."""

    shard: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def torch_dtype(self) -> Any:
        """The dtype in torch."""
        import torch

        return getattr(torch, _DTYPES[self.dtype])

    def sha256(self) -> str:
        """Hex SHA-256 of the tensor's bytes."""
        digest = hashlib.sha256()
        for piece in _pieces(self):
            digest.update(piece)
        return digest.hexdigest()


def read_checkpoint(directory: Path) -> dict[str, Stored]:
    """Every tensor of a directory by its name in the files, from the shards' headers.

    Raises:
        FormatError: if a shard is missing, cut short or no safetensors file, holds a tensor that another shard holds too, or
            lacks one that the index promises.
    """
    found: dict[str, Stored] = {}
    shards, promised = _shards(directory)
    for shard in shards:
        for name, stored in read_shard(shard).items():
            if name in found:
                raise FormatError(
                    shard,
                    None,
                    f"{name} is also in {found[name].shard.name}; which of the two a loader takes is chance",
                )
            found[name] = stored
    lacking = sorted(promised - found.keys())
    if lacking:
        raise FormatError(directory / INDEX, None, f"promises tensors that no shard holds: {', '.join(lacking[:6])}")
    return found


def _shards(directory: Path) -> tuple[list[Path], set[str]]:
    if (directory / SINGLE).is_file():  # transformers looks for this one first
        return [directory / SINGLE], set()
    if not (directory / INDEX).is_file():
        if any(directory.glob("*.bin")):
            raise FormatError(
                directory,
                None,
                "holds only .bin weights (pickles); convert once: from_pretrained(DIR), then save_pretrained(NEW_DIR)",
            )
        raise FormatError(directory, None, f"neither {SINGLE} nor {INDEX} in it: not a checkpoint, or not a whole one")
    try:
        weight_map = json.loads((directory / INDEX).read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FormatError(directory / INDEX, None, 'not a JSON object with a "weight_map"') from None
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        raise FormatError(
            directory,
            None,
            f"{len(missing)} of {len(names)} shards are missing: {', '.join(missing[:6])}; download it again",
        )
    return [directory / name for name in names], set(weight_map)


def read_shard(path: Path) -> dict[str, Stored]:
    """The tensors of one safetensors file, in the order of their bytes.

    Raises:
        FormatError: if it is not a whole safetensors file.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size - 8:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        base = 8 + length
        found = {
            name: Stored(path, item["dtype"], tuple(item["shape"]), *(base + offset for offset in item["data_offsets"]))
            for name, item in sorted(header.items(), key=lambda pair: pair[1]["data_offsets"])
        }
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise FormatError(path, None, f"not a whole safetensors file ({error})") from None
    size, end = path.stat().st_size, max((stored.end for stored in found.values()), default=base)
    if size != end:
        raise FormatError(path, None, f"{size} bytes long where its header says {end}: cut short or damaged")
    return found


def place(source: Path, target: Path, copy: bool = False) -> None:
    """Hard-link a file, or copy it where that cannot be (another disk) or is not wanted. Links are followed to the file."""
    source = source.resolve()
    if not copy:
        try:
            os.link(source, target)
            return
        except OSError:
            pass
    shutil.copyfile(source, target)


def write_shard(path: Path, parts: "dict[str, Stored | Tensor]") -> dict[str, str]:
    """Write a safetensors file from tensors that lie in other files or in memory; SHA-256 of each by name.

    Bytes of stored tensors are streamed. Tensors in memory must be contiguous, on the CPU.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, part in parts.items():
        size = part.end - part.start if isinstance(part, Stored) else part.nbytes
        header[name] = {"dtype": _dtype_name(part), "shape": list(part.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    hashes = {}
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, part in parts.items():
            hashes[name] = _write(file, _pieces(part))
    return hashes


def tensor_sha256(tensor: "Tensor") -> str:
    """Hex SHA-256 of a tensor's bytes, as they would lie in a file."""
    digest = hashlib.sha256()
    for piece in _pieces(tensor):
        digest.update(piece)
    return digest.hexdigest()


def _dtype_name(part: "Stored | Tensor") -> str:
    if isinstance(part, Stored):
        return part.dtype
    return {name: short for short, name in _DTYPES.items()}[str(part.dtype).removeprefix("torch.")]


def _pieces(part: "Stored | Tensor") -> Iterator[bytes | memoryview]:
    if not isinstance(part, Stored):
        import torch

        yield part.contiguous().flatten().view(torch.uint8).numpy().data
        return
    with part.shard.open("rb") as file:
        file.seek(part.start)
        left = part.end - part.start
        while left:
            piece = file.read(min(left, CHUNK))
            if not piece:
                raise FormatError(part.shard, None, "became shorter while it was read")
            left -= len(piece)
            yield piece


def _write(file: BinaryIO, pieces: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        file.write(piece)
        digest.update(piece)
    return digest.hexdigest()


def write_index(directory: Path, tensors: dict[str, Stored]) -> None:
    """Write the index that tells transformers which shards there are."""
    total = sum(stored.end - stored.start for stored in tensors.values())
    weight_map = {name: tensors[name].shard.name for name in sorted(tensors)}
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2)
    (directory / INDEX).write_text(text + "\n", encoding="utf-8")
