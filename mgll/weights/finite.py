"""Whether tensors in safetensors files hold NaN or infinity: read as bytes, without torch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from mgll.formats import FormatError
from mgll.weights.stored import Stored

#: How numbers lie in bytes, and the bits of their exponent, by dtype; all of these are set in NaN and infinity, nowhere else.
EXPONENTS: dict[str, tuple[np.dtype[Any], int]] = {
    "F64": (np.dtype("<u8"), 0x7FF0_0000_0000_0000),
    "F32": (np.dtype("<u4"), 0x7F80_0000),
    "F16": (np.dtype("<u2"), 0x7C00),
    "BF16": (np.dtype("<u2"), 0x7F80),
}
#: Of a tensor that is not read whole, so many pieces of so many bytes are read, the first and the last bytes among them.
PIECES, PIECE = 8, 8192
_CHUNK = 16 * 2**20


def check_finite(tensors: Mapping[str, Stored], whole: bool = True) -> None:
    """Check that tensors hold numbers only.

    Args:
        tensors: the tensors by name.
        whole: read every byte. Otherwise a tensor of more than 64 KiB is sampled: NaN that training leaves is seldom a single one.

    Raises:
        FormatError: naming the first tensors that hold NaN or infinity.
    """
    wrong = ((name, stored) for name, stored in tensors.items() if not is_finite(stored, whole))
    if found := list(islice(wrong, 4)):
        names = ", ".join(name for name, _ in found)
        raise FormatError(found[0][1].shard, None, not_finite(names))


def names_not_finite(tensors: Mapping[str, Any]) -> list[str]:
    """The names of those torch tensors in memory that hold NaN or infinity."""
    return [name for name, tensor in tensors.items() if not tensor.isfinite().all()]


def not_finite(names: str) -> str:
    """The sentence for tensors of these names that hold NaN or infinity."""
    return (
        f"NaN or infinity in {names}: weights of a training that diverged, or a damaged file; use an earlier checkpoint"
    )


def emptied(names: Sequence[str]) -> str:
    """The sentence for tensors of these names that have no values."""
    return (
        f"{len(names)} tensors are empty, such as {names[0]}: saved under DeepSpeed's ZeRO-3 without gathering the weights; convert"
        " that run's checkpoint with its zero_to_fp32.py"
    )


def is_finite(stored: Stored, whole: bool) -> bool:
    """Whether a tensor holds numbers only, read whole or in samples; integers always are numbers."""
    if stored.dtype not in EXPONENTS:
        return True
    kind, exponent = EXPONENTS[stored.dtype]
    with stored.shard.open("rb") as file:
        for start, end in ranges(stored.nbytes, kind.itemsize, whole):
            file.seek(stored.start + start)
            if np.any((np.frombuffer(file.read(end - start), kind) & kind.type(exponent)) == exponent):
                return False
    return True


def ranges(size: int, item: int, whole: bool) -> Iterator[tuple[int, int]]:
    """The byte ranges to read of a tensor of `size` bytes, whose numbers have `item` bytes each: all, or samples of a large one."""
    starts: Iterable[int]
    if whole or size <= PIECES * PIECE:
        starts, step = range(0, size, _CHUNK), _CHUNK
    else:
        starts, step = [(size - PIECE) * i // (PIECES - 1) // item * item for i in range(PIECES)], PIECE
    yield from ((start, min(start + step, size)) for start in starts)
