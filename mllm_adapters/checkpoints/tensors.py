"""Checkpoints as bytes: headers of safetensors files are read, shards are linked, or rewritten with other tensors in them.

Nothing here builds a model or reads a whole safetensors shard; copying takes no more memory than one buffer.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mgll.formats import FormatError
from mgll.weights import dtypes
from mgll.weights import reading as weights
from mgll.weights.finite import EXPONENTS, is_finite, not_finite, ranges
from mgll.weights.model_folder import indexed_files
from mgll.weights.stored import Stored, read_stored
from mllm_adapters.checkpoints.deferred import Absent, Computed

if TYPE_CHECKING:
    from torch import Tensor

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLES = "pytorch_model.bin"
CHUNK = 16 * 2**20
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_DTYPES |= {"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}
_DTYPES |= {"U64": "uint64", "U32": "uint32", "U16": "uint16", "C64": "complex64"}
_DTYPES |= {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
_SHORT = {name: short for short, name in _DTYPES.items()}


@dataclass(frozen=True)
class Held:
    """A tensor in memory, or mapped from the pickle `shard`."""

    tensor: "Tensor"
    shard: Path | None = None

    @property
    def dtype(self) -> str:
        """Name of the dtype in safetensors, such as `F32`."""
        return _SHORT[str(self.tensor.dtype).removeprefix("torch.")]

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(self.tensor.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.tensor.numel() * self.tensor.element_size()


@dataclass(frozen=True)
class Joined:
    """A tensor joined from parts of one dtype along the first dimension, such as old embeddings and rows for new tokens."""

    parts: tuple[Stored | Held, ...]

    @property
    def shard(self) -> Path | None:
        """File of the first part; None where that part has no file."""
        return self.parts[0].shard

    @property
    def dtype(self) -> str:
        """Name of the parts' dtype in safetensors."""
        return self.parts[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the joined tensor, with the rows of all parts."""
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return sum(part.nbytes for part in self.parts)


Part = Stored | Held | Joined | Computed | Absent


def torch_dtype(part: Part) -> Any:
    """The `torch.dtype` of a tensor in a file or in memory."""
    # here, because torch takes seconds to import
    import torch

    return getattr(torch, dtype_name(part))


def dtype_name(part: Part) -> str:
    """The name by which torch calls a tensor's dtype, such as `float32`."""
    return _DTYPES[part.dtype]


def is_float(part: Part) -> bool:
    """Whether a tensor holds floating-point numbers. Only these may change precision; batch norms also hold integer counters."""
    return dtypes.is_float(part.dtype)


def sha256_of(part: Part) -> str:
    """Hex SHA-256 of a tensor's bytes, as they lie in a safetensors file."""
    digest = hashlib.sha256()
    for piece in _pieces(part):
        digest.update(piece)
    return digest.hexdigest()


def rows(part: Stored | Held, first: int, last: int) -> Stored | Held:
    """Take rows `first` to `last` - 1 of a tensor without reading or copying any bytes.

    Raises:
        ValueError: if the tensor has no such rows.
    """
    if not part.shape or not 0 <= first < last <= part.shape[0]:
        raise ValueError(f"rows {first} to {last} of a tensor of shape {part.shape}")
    if isinstance(part, Held):
        return replace(part, tensor=part.tensor[first:last])
    size = part.nbytes // part.shape[0]
    shape = (last - first, *part.shape[1:])
    return replace(part, shape=shape, start=part.start + first * size, end=part.start + last * size)


def read_tensor(part: Part) -> "Tensor":
    """Read a whole tensor into memory; meant for small tensors."""
    import torch

    data = bytearray(b"".join(bytes(piece) for piece in _pieces(part)))
    return torch.frombuffer(data, dtype=torch_dtype(part)).reshape(part.shape)


def read_checkpoint(directory: Path) -> dict[str, Stored | Held]:
    """Find every tensor of a checkpoint directory by its name in the files: in its safetensors shards, else in its `.bin` shards.

    Raises:
        FormatError: if a shard is missing, cut short or not what its name says, holds a tensor that another shard holds too, or
            lacks one that the index promises.
    """
    found: dict[str, Stored | Held] = {}
    shards, promised = _shards(directory)
    for shard in shards:
        content: Mapping[str, Stored | Held] = (
            read_shard(shard) if shard.suffix == ".safetensors" else read_pickle(shard)
        )
        for name, part in content.items():
            if name in found:
                first = found[name].shard
                assert first is not None
                raise FormatError(
                    shard, None, f"{name} is also in {first.name}; which of the two a loader takes is chance"
                )
            found[name] = part
    lacking = sorted(promised - found.keys())
    if lacking:
        raise FormatError(directory, None, f"its index promises tensors that no shard holds: {', '.join(lacking[:6])}")
    return found


def _shards(directory: Path) -> tuple[list[Path], set[str]]:
    for single in (SINGLE, PICKLES):
        index = directory / f"{single}.index.json"
        if (directory / single).is_file():  # transformers, too, looks for this one first
            return [directory / single], set()
        if index.is_file():
            return indexed_files(index)
    raise FormatError(
        directory,
        None,
        f"none of {SINGLE}, {INDEX}, {PICKLES} and its index in it: not a checkpoint, or not a whole one",
    )


def read_shard(path: Path) -> dict[str, Stored]:
    """The tensors of one safetensors file, in the order of their bytes.

    Raises:
        FormatError: if it is not a whole safetensors file.
    """
    return read_stored(path)[0]


def read_pickle(path: Path) -> dict[str, Held]:
    """The tensors of an old `.bin` or `.pt` shard, memory-mapped where the file allows it. No code in the file is run.

    Raises:
        FormatError: if it is damaged, or holds anything but tensors.
    """
    return {name: Held(tensor, path) for name, tensor in weights.read_pickle(path).items()}


def place(source: Path, target: Path, copy: bool = False) -> None:
    """Hard-link a file; copy it where `copy` is set or a hard link is not possible (another disk). Symbolic links are followed.

    A copy shares its blocks with the source on file systems that can do so.
    """
    source = source.resolve()
    if not copy:
        try:
            os.link(source, target)
            return
        except OSError:
            pass
    with source.open("rb") as read, target.open("wb") as written:
        _copy_range(read, written, 0, source.stat().st_size)


def write_shard(path: Path, parts: Mapping[str, Part]) -> None:
    """Write a safetensors file from tensors that lie in other files or in memory. The former are copied from file to file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, part in parts.items():
        header[name] = {"dtype": part.dtype, "shape": list(part.shape), "data_offsets": [offset, offset + part.nbytes]}
        offset += part.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for run in _runs(parts.values()):
            if isinstance(run, Stored):
                with run.shard.open("rb") as source:
                    _copy_range(source, file, run.start, run.nbytes)
            else:
                for piece in _pieces(run):
                    file.write(piece)


def _runs(parts: Iterator[Part] | Any) -> Iterator[Part]:
    """Merge parts that follow each other in one file into one range, so that bytes are copied in as few pieces as possible."""
    last: Stored | None = None
    for part in _flat(parts):
        if last and isinstance(part, Stored) and (part.shard, part.start) == (last.shard, last.end):
            last = replace(last, end=part.end)
            continue
        if last:
            yield last
        last = part if isinstance(part, Stored) else None
        if last is None:
            yield part
    if last:
        yield last


def _flat(parts: Any) -> Iterator[Any]:
    for part in parts:
        yield from part.parts if isinstance(part, Joined) else (part,)


def _copy_range(source: BinaryIO, target: BinaryIO, start: int, size: int) -> None:
    """Append a range of one file's bytes to another file, inside the kernel where it can do that."""
    target.flush()
    done = 0
    try:
        while done < size:
            copied = os.copy_file_range(source.fileno(), target.fileno(), size - done, start + done)
            if not copied:
                raise FormatError(source.name, None, "became shorter while it was read")
            done += copied
    except (OSError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno == 28:  # no space left: the slower way below would not help
            raise
        source.seek(start + done)
        target.seek(0, os.SEEK_END)
        while done < size:
            piece = source.read(min(size - done, CHUNK))
            if not piece:
                raise FormatError(source.name, None, "became shorter while it was read") from None
            target.write(piece)
            done += len(piece)
        return
    target.seek(0, os.SEEK_END)


def _pieces(part: Part) -> Iterator[bytes | memoryview]:
    if isinstance(part, Joined):
        for inner in part.parts:
            yield from _pieces(inner)
    elif isinstance(part, Absent):
        raise ValueError("a tensor that its checkpoint leaves out has no bytes")
    elif isinstance(part, Computed):
        yield from _pieces(Held(part.compute()))
    elif isinstance(part, Held):
        import torch

        yield part.tensor.contiguous().flatten().view(torch.uint8).numpy().data
    else:
        with part.shard.open("rb") as file:
            file.seek(part.start)
            left = part.nbytes
            while left:
                piece = file.read(min(left, CHUNK))
                if not piece:
                    raise FormatError(part.shard, None, "became shorter while it was read")
                left -= len(piece)
                yield piece


def check_finite(tensors: Mapping[str, Part], directory: Path, whole: bool) -> None:
    """Check that a checkpoint's tensors hold numbers only, each whole or in samples (`mgll.weights.finite`).

    Raises:
        FormatError: naming the first tensors that hold NaN or infinity.
    """
    wrong = (name for name, part in tensors.items() if not all(_is_finite(piece, whole) for piece in _inputs(part)))
    if found := list(islice(wrong, 4)):
        raise FormatError(tensors[found[0]].shard or directory, None, not_finite(", ".join(found)))


def _inputs(part: Part) -> Iterator[Any]:
    """The tensors with bytes of which one is made."""
    return _flat(() if isinstance(part, Absent) else part.inputs if isinstance(part, Computed) else (part,))


def _is_finite(part: Stored | Held, whole: bool) -> bool:
    if isinstance(part, Stored):
        return is_finite(part, whole)
    if part.dtype not in EXPONENTS:
        return True
    numbers, item = part.tensor.reshape(-1), part.tensor.element_size()
    return all(bool(numbers[i // item : j // item].isfinite().all()) for i, j in ranges(part.nbytes, item, whole))


def write_index(directory: Path, tensors: Mapping[str, Stored]) -> None:
    """Write the index that tells transformers which shard holds each tensor."""
    total = sum(stored.nbytes for stored in tensors.values())
    weight_map = {name: tensors[name].shard.name for name in sorted(tensors)}
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2)
    (directory / INDEX).write_text(text + "\n", encoding="utf-8")
