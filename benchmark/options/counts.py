"""How many cases each class gets, and which image serves for which: Table 14's counts exactly, or in proportion."""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy

from mgll.vocabulary.diseases import benchmark_classes


class ShortageError(ValueError):
    """Classes that have fewer images than they need; the message says class by class how many there are."""

    def __init__(self, short: Mapping[str, tuple[int, int]]) -> None:
        missing = sum(need - have for have, need in short.values())
        classes = "; ".join(f"{code}: have {have}, need {need}" for code, (have, need) in short.items())
        super().__init__(f"{missing} images are missing for {len(short)} classes: {classes}")


def in_proportion(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Split `count` in proportion to `sizes` by largest remainders, with at least one for each class where `count` allows.

    Classes whose share is below one get one; the others split what is left. A tie goes to the class that comes first.
    """
    codes, weights = list(sizes), np.array(list(sizes.values()), dtype=float)
    numbers = np.zeros(len(codes), dtype=int)
    free = weights > 0
    if count >= free.sum():
        while (tiny := free & (_quota(weights, free, count - numbers.sum()) < 1)).any():
            numbers[tiny], free = 1, free & ~tiny
    quota = _quota(weights, free, count - numbers.sum())
    numbers += np.floor(quota).astype(int)
    rest = np.argsort(np.floor(quota) - quota, kind="stable")
    numbers[rest[: count - numbers.sum()]] += 1
    return dict(zip(codes, numbers.tolist(), strict=True))


def table14_counts(count: int | None = None) -> dict[str, int]:
    """Class -> cases of Table 14; a smaller `count` keeps its proportions.

    Raises:
        ValueError: if count is above the table's 2,233.
    """
    counts = {disease.code: disease.cases for disease in benchmark_classes()}
    total = sum(counts.values())
    if count is not None and count > total:
        raise ValueError(f"Table 14 has {total:,} cases, {count:,} are wanted; leave the count out or lower it")
    return counts if count in (None, total) else in_proportion(counts, count)


def assign_images(member: np.ndarray, need: Sequence[int], rng: np.random.Generator) -> list[np.ndarray]:
    """Give each class as many different images as it needs, no image to two classes: as many as can be had in all.

    An image with several findings can serve for any of them, so this is a maximum matching. Which images are taken is random.

    Args:
        member: [images, classes] whether the image is an example of the class.
        need: images wanted by each class.
        rng: source of randomness.

    Returns:
        For each class the indices of its images, fewer than needed where they don't suffice.
    """
    total = int(sum(need))
    wanted = []
    for column, number in zip(member.T, need, strict=True):
        candidates = rng.permutation(np.flatnonzero(column))
        # Whatever the others take, `total` candidates are enough: more would only make the matching slow.
        wanted += [np.sort(candidates[:total])] * number
    if not wanted:
        return [np.array([], dtype=int) for _ in need]
    # The matching prefers low columns: their order is drawn, not the manifest's.
    order = rng.permutation(len(member))
    columns = [order[candidates] for candidates in wanted]
    starts = np.concatenate([[0], np.cumsum([len(column) for column in columns])])
    edges = np.ones(starts[-1], dtype=np.int8)
    graph = scipy.sparse.csr_array((edges, np.concatenate(columns), starts), shape=(total, len(member)))
    graph.sort_indices()
    matched = scipy.sparse.csgraph.maximum_bipartite_matching(graph, perm_type="column")
    image_of = np.argsort(order)
    ends = np.cumsum(need)
    return [image_of[part[part >= 0]] for part in np.split(matched, ends[:-1])]


def _quota(weights: np.ndarray, free: np.ndarray, count: int) -> np.ndarray:
    """[classes] share of `count` by weight among the free classes, 0 for the others."""
    held = np.where(free, weights, 0.0)
    return held * count / max(held.sum(), 1)
