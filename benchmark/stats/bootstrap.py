"""The bootstrap over whole patients, drawn once for all the numbers of a report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from benchmark.stats.first_seen import first_seen

DRAWS = 10_000
_CHUNK = 500  # draws at a time: what is drawn at once stays at a few MB
_KEPT = 50_000_000  # so many counts (200 MB) are kept between numbers; beyond that each number draws them again


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval (all NaN where there is nothing to average)."""

    value: float
    low: float
    high: float


class Resampling:
    """Draws of groups with replacement, the same for every number that is taken from them.

    Both means are linear in the values, so with `after - before` they give the paired bootstrap of a difference.

    Args:
        groups: [cases] patient or eye of each case.
        codes: [cases] class of each case; None for a single class.
        draws: number of resamples.
        seed: of the resampling.
    """

    def __init__(
        self,
        groups: Sequence[str] | ArrayLike,
        codes: Sequence[str] | ArrayLike | None = None,
        draws: int = DRAWS,
        seed: int = 0,
    ) -> None:
        self._group, names = first_seen(groups)
        self._class, classes = first_seen(codes if codes is not None else np.zeros(len(self._group)))
        self.groups, self.classes = len(names), [str(code) for code in classes]
        self._draws, self._seed = draws, seed
        self._kept = list(self._drawn()) if self.groups * draws <= _KEPT else None
        self._last: tuple[bytes, np.ndarray] | None = None
        self._sizes = self.sums(np.ones(len(self._group)), self._class)

    def mean(self, values: ArrayLike) -> Estimate:
        """Mean over cases of `values` [cases], with its percentile interval."""
        if not self.groups:
            return Estimate(np.nan, np.nan, np.nan)
        drawn = self._by_class(values).sum(axis=0) / self.sizes
        return _estimate(float(np.asarray(values, dtype=float).mean()), drawn)

    def class_mean(self, values: ArrayLike, among: Sequence[str] | None = None) -> Estimate:
        """Unweighted mean over classes of their means; a class that a draw lacks is left out of that draw's average.

        Args:
            values: [cases].
            among: the classes to average, of which those that occur count; all by default.
        """
        columns = [column for column, code in enumerate(self.classes) if among is None or code in among]
        if not columns:
            return Estimate(np.nan, np.nan, np.nan)
        sums, sizes = self._by_class(values)[columns], self._sizes[columns]
        present = sizes > 0
        means = np.divide(sums, sizes, out=np.zeros_like(sums), where=present).sum(axis=0)
        counts = present.sum(axis=0)
        scores = np.asarray(values, dtype=float)
        value = float(np.mean([scores[self._class == column].mean() for column in columns]))
        return _estimate(value, means[counts > 0] / counts[counts > 0])

    def _by_class(self, values: ArrayLike) -> np.ndarray:
        """[classes, draws] sums of `values`; those of the last ones are kept, since several means are asked of the same values."""
        key = np.asarray(values, dtype=float).tobytes()
        if self._last is None or self._last[0] != key:
            self._last = key, self.sums(values, self._class)
        return self._last[1]

    @property
    def sizes(self) -> np.ndarray:
        """[draws] number of cases in each draw."""
        return np.asarray(self._sizes.sum(axis=0))

    def sums(self, values: ArrayLike, columns: np.ndarray) -> np.ndarray:
        """Sums of `values` [cases] in each draw, apart by the numbers in `columns` [cases]: [columns, draws]."""
        scores = np.asarray(values, dtype=np.float32)
        if scores.shape != self._group.shape:
            raise ValueError(f"one entry a case is needed, found shapes {scores.shape} and {self._group.shape}")
        by_column = scipy.sparse.csr_matrix((scores, (columns, self._group)), (columns.max(initial=0) + 1, self.groups))
        drawn = self._drawn() if self._kept is None else self._kept
        return np.concatenate([by_column @ times for times in drawn], axis=1).astype(float)

    def _drawn(self) -> Iterator[np.ndarray]:
        """[groups, draws] how often each draw holds each group, some draws at a time."""
        for times in resamples(self.groups, self._draws, self._seed):
            yield np.ascontiguousarray(times.T, dtype=np.float32)


def resamples(groups: int, draws: int = DRAWS, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each group is drawn in each of `draws` bootstrap samples, in chunks [rows, groups]."""
    rng = np.random.default_rng(seed)
    for start in range(0, draws if groups else 0, _CHUNK):
        rows = min(_CHUNK, draws - start)
        picks = rng.integers(0, groups, (rows, groups)) + np.arange(rows)[:, None] * groups
        yield np.bincount(picks.ravel(), minlength=rows * groups).reshape(rows, groups).astype(float)


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
