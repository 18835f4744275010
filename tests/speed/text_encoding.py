"""Every string of a batch encoded, against each unique text once; printed as a ratio, side by side in one process.

python tests/speed/text_encoding.py
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from rows import Row, say, shown

from mgll.encoders.text import TextEncoder
from mgll.synthetic import sample_eye
from mgll.vocabulary.label_texts import describe_labels

BATCH, ROUNDS = 32, 3


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def rows() -> Iterator[Row]:
    """Every string of a batch, against each unique text once."""
    random = np.random.default_rng(0)
    batch = [describe_labels(sample_eye(random)) for _ in range(BATCH)]
    strings = [text for texts in batch for level in texts.values() for text in level]
    unique = list(dict.fromkeys(strings))
    encode = TextEncoder().features
    encode(unique)
    ratios = [seconds(lambda: encode(strings)) / seconds(lambda: encode(unique)) for _ in range(ROUNDS)]
    note = f"{len(strings)} strings, {len(unique)} unique"
    yield shown(f"encoding every text of a batch of {BATCH}", "each unique text once", float(np.median(ratios)), note)


if __name__ == "__main__":
    say(rows())
