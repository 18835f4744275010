"""What the loops of pretraining and fine-tuning share: order, batches, learning rate, log."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mgll.files import write_text


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Random permutation of the training images for one epoch: indices [count]."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def global_batches(
    count: int, batch_size: int, seed: int, epoch: int, first: int = 0, order: np.ndarray | None = None
) -> Iterator[list[int]]:
    """Record indices of every global batch of an epoch from batch `first` on; the incomplete last one is left out.

    The images follow `order`; if it is None, the permutation that `epoch_order` gives.
    """
    order = epoch_order(count, seed, epoch) if order is None else order
    for start in range(first * batch_size, count - batch_size + 1, batch_size):
        yield order[start : start + batch_size].tolist()


def process_share(batch: list[int], process: int, processes: int) -> list[int]:
    """The contiguous part of a global batch that one process loads."""
    size = len(batch) // processes
    return batch[process * size : (process + 1) * size]


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Number of complete batches in an epoch."""
    return images // batch_size


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then cosine to 0."""
    rise = max(1, round(total * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def cut_log(log: Path, done: int) -> None:
    """Drop the log's lines of steps after `done`, the step of the checkpoint: a resumed run does these steps again."""
    if log.is_file():
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
        write_text(log, "".join(line + "\n" for line in lines if _step_of(line) <= done))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return math.inf  # a line that a kill cut short
