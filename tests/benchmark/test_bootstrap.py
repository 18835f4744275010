"""Shared draws give what separate draws give, and what resampling case by case gives."""

import numpy as np
import pytest

from benchmark.stats import bootstrap
from benchmark.stats.bootstrap import Resampling, resamples


@pytest.fixture
def cases():
    random = np.random.default_rng(0)
    groups = random.integers(0, 40, 90)
    return random.integers(0, 2, 90), groups, random.choice(["a", "b", "c"], 90, p=[0.7, 0.25, 0.05])


def by_hand(values, groups, codes, draws):
    """Overall and macro means of each draw, building each resampled set of cases."""
    names = list(dict.fromkeys(groups.tolist()))
    found = []
    for times in np.concatenate(list(resamples(len(names), draws))).astype(int):
        weights = np.array([times[names.index(group)] for group in groups.tolist()])
        drawn, classes = np.repeat(values, weights), np.repeat(codes, weights)
        found.append((drawn.mean(), np.mean([drawn[classes == code].mean() for code in np.unique(classes)])))
    return np.array(found)


def test_intervals_are_those_of_resampled_cases(cases):
    values, groups, codes = cases
    drawn = Resampling(groups, codes, draws=400)
    expected = np.quantile(by_hand(values, groups, codes, 400), [0.025, 0.975], axis=0)
    overall, macro = drawn.mean(values), drawn.class_mean(values)
    assert (overall.low, overall.high) == pytest.approx(tuple(expected[:, 0]), abs=1e-6)
    assert (macro.low, macro.high) == pytest.approx(tuple(expected[:, 1]), abs=1e-6)
    assert overall.value == values.mean()
    assert macro.value == pytest.approx(np.mean([values[codes == code].mean() for code in "abc"]))


def test_draws_that_are_too_many_to_keep_are_drawn_again(cases, monkeypatch):
    values, groups, codes = cases
    kept = Resampling(groups, codes, draws=700)
    monkeypatch.setattr(bootstrap, "_KEPT", 0)
    again = Resampling(groups, codes, draws=700)
    assert again.mean(values) == kept.mean(values)
    assert again.class_mean(1 - values) == kept.class_mean(1 - values)


def test_some_classes_alone(cases):
    values, groups, codes = cases
    drawn = Resampling(groups, codes, draws=300)
    expected = np.mean([values[codes == code].mean() for code in "ac"])
    assert drawn.class_mean(values, ("a", "c", "z")).value == pytest.approx(expected)
    assert np.isnan(drawn.class_mean(values, ("z",)).value)


def test_sums_apart_by_any_column(cases):
    values, groups, _ = cases
    drawn = Resampling(groups, draws=50)
    columns = np.arange(90) % 3
    sums = drawn.sums(values, columns)
    assert sums.shape == (3, 50)
    assert sums.sum(axis=0) / drawn.sizes == pytest.approx(drawn.sums(values, np.zeros(90, dtype=int))[0] / drawn.sizes)


def test_one_entry_a_case(cases):
    values, groups, codes = cases
    with pytest.raises(ValueError, match="one entry a case"):
        Resampling(groups, codes, draws=10).mean(values[:-1])
