"""Every string of a batch encoded, against each unique text once; printed as a ratio, side by side in one process.

python tests/speed/text_encoding.py
"""

import time
from collections.abc import Callable

import numpy as np

from mgll.encoders.text import TextEncoder
from mgll.synthetic import sample_eye
from mgll.vocabulary.label_texts import describe_labels

BATCH, ROUNDS = 32, 3


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    random = np.random.default_rng(0)
    batch = [describe_labels(sample_eye(random)) for _ in range(BATCH)]
    strings = [text for texts in batch for level in texts.values() for text in level]
    unique = list(dict.fromkeys(strings))
    encode = TextEncoder().features
    encode(unique)
    ratios = [seconds(lambda: encode(strings)) / seconds(lambda: encode(unique)) for _ in range(ROUNDS)]
    print(f"batch of {BATCH}: {len(strings)} strings, {len(unique)} unique texts")
    print(f"text encoding, every string / unique texts: {np.median(ratios):.2f} x")


if __name__ == "__main__":
    main()
