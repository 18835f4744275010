"""Splits: the names that data sets give them, and a split by group where a data set has none."""

import hashlib
from collections.abc import Sequence

from mgll.manifest.records import Split

NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
SHARES = (0.7, 0.1, 0.2)


def split_of_group(group: str, seed: int, shares: Sequence[float] = SHARES) -> Split:
    """The split of a group: a function of the group's name, the seed and the shares alone.

    Therefore all images of a patient share a split whatever else is in the data set, and keep it when the data set grows.

    Args:
        group: patient or eye.
        seed: another seed gives another split.
        shares: shares of train, val and test; they need not add up to 1.
    """
    digest = hashlib.sha256(f"{seed}/{group}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64 * sum(shares)
    if place < shares[0]:
        return "train"
    return "val" if place < shares[0] + shares[1] else "test"


def parse_shares(text: str) -> tuple[float, float, float]:
    """Shares of train, val and test as `0.7,0.1,0.2`.

    Raises:
        ValueError: unless these are three numbers of which none is negative and one is positive.
    """
    shares = tuple(float(part) for part in text.split(","))
    if len(shares) != 3 or min(shares) < 0 or sum(shares) <= 0:
        raise ValueError(f"expected three shares such as 0.7,0.1,0.2, found {text!r}")
    return shares
