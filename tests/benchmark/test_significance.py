"""Intervals and tests against closed forms, brute force and scipy's own."""

from itertools import product
from math import comb

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import bootstrap as scipy_bootstrap

from benchmark.options.draw import draw
from benchmark.stats.significance import (
    average_seeds,
    bootstrap,
    compare,
    informedness,
    mcnemar,
    mcnemar_by_class,
    per_class,
    sign_flip,
    summarise,
    wilson,
)
from mgll.vocabulary.diseases import TEN_CLASSES, benchmark_classes, diseases

RNG = np.random.default_rng(7)
TABLE14 = [(disease.code,) for disease in benchmark_classes() for _ in range(disease.cases)]


def own_groups(n: int) -> np.ndarray:
    return np.arange(n).astype(str)


@pytest.mark.parametrize(("correct", "n"), [(20, 20), (0, 7), (1117, 2233), (3, 10), (4.5, 10)])
def test_wilson_is_its_closed_form(correct, n):
    z, p = 1.959963984540054, correct / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    estimate = wilson(correct, n)
    assert estimate.value == p
    assert (estimate.low, estimate.high) == (pytest.approx(max(centre - half, 0)), pytest.approx(min(centre + half, 1)))


def test_wilson_refuses_impossible_counts():
    with pytest.raises(ValueError, match="5 correct of 4"):
        wilson(5, 4)
    assert np.isnan(wilson(0, 0).value)


def test_mcnemar_is_the_exact_binomial_of_the_discordant_cases():
    before = np.repeat([1, 1, 0, 0], [50, 4, 15, 31])
    after = np.repeat([1, 0, 1, 0], [50, 4, 15, 31])
    result = mcnemar(before, after)
    assert (result.only_before, result.only_after) == (4, 15)
    assert result.p == pytest.approx(binomtest(4, 19).pvalue)
    assert mcnemar(before, before).p == 1
    assert mcnemar([1, 0], [0, 1]).p == 1


def test_mid_p_counts_half_of_the_observed_outcome():
    # Both tails of binomial(19, 1/2) from 4 on, less one half of each end: the table of Fagerland et al. has this form.
    expected = 2 * (sum(comb(19, k) for k in range(4)) + comb(19, 4) / 2) / 2**19
    assert mcnemar(np.repeat([1, 0], [4, 15]), np.repeat([0, 1], [4, 15])).mid_p == pytest.approx(expected)
    assert mcnemar([1, 1], [1, 1]).mid_p == 1


@pytest.mark.parametrize(("only_before", "only_after"), [(a, b) for a in range(9) for b in range(9) if a + b])
def test_mid_p_is_more_extreme_outcomes_and_half_of_those_as_extreme(only_before, only_after):
    n = only_before + only_after
    distance = abs(only_before - only_after)
    weights = {k: comb(n, k) for k in range(n + 1)}
    further = sum(weight for k, weight in weights.items() if abs(2 * k - n) > distance)
    as_far = sum(weight for k, weight in weights.items() if abs(2 * k - n) == distance)
    before, after = np.repeat([1, 0], [only_before, only_after]), np.repeat([0, 1], [only_before, only_after])
    found = mcnemar(before, after)
    assert found.mid_p == pytest.approx((further + as_far / 2) / 2**n)
    assert found.p == pytest.approx((further + as_far) / 2**n)


def test_classes_are_tested_one_by_one_and_corrected_by_holm():
    codes = np.repeat(["Health", "DR", "CN"], [100, 60, 3])
    before = np.concatenate([np.repeat([1, 0], [50, 50]), np.repeat([0, 1], [30, 30]), [0, 0, 0]])
    after = np.concatenate([np.repeat([1, 0, 1, 0], [40, 10, 8, 42]), np.repeat([1, 1], [30, 30]), [1, 1, 1]])
    table = mcnemar_by_class(before, after, codes)
    assert table["code"].tolist() == ["Health", "DR", "CN"]
    assert table["n"].tolist() == [100, 60, 3]
    assert list(zip(table["only_before"], table["only_after"], strict=True)) == [(10, 8), (0, 30), (0, 3)]
    raw = [binomtest(8, 18).pvalue, 2 * 0.5**30, 0.25]
    assert table["p"].tolist() == pytest.approx(raw)
    # Sorted: 3 * DR, then 2 * CN, then 1 * Health; none below the one before it.
    assert table["p_holm"].tolist() == pytest.approx([max(raw[0], 2 * raw[2]), 3 * raw[1], 2 * raw[2]])


def test_no_case_makes_an_empty_table():
    assert mcnemar_by_class([], [], []).columns.tolist() == ["code", "n", "only_before", "only_after", "p", "p_holm"]


def test_mcnemar_refuses_means_over_seeds():
    with pytest.raises(ValueError, match="sign_flip"):
        mcnemar([0.5, 1.0], [1.0, 1.0])


def test_sign_flip_is_exact_for_few_groups():
    difference = np.array([1, 1, 0, -1, 1, 1, 0, 1, -1, 1], dtype=float)
    groups = list("aabbcdefgh")
    sums = np.array([2, -1, 1, 1, 0, 1, -1, 1])
    flips = np.array([np.dot(signs, sums) for signs in product([1, -1], repeat=len(sums))])
    assert sign_flip(difference, groups) == pytest.approx((np.abs(flips) >= abs(sums.sum())).mean())
    assert sign_flip(np.zeros(10), groups) == 1


def test_sign_flip_agrees_with_mcnemar_where_every_case_is_its_own_group():
    before, after = (RNG.random(400) < 0.5).astype(int), (RNG.random(400) < 0.57).astype(int)
    assert sign_flip(after - before, own_groups(400)) == pytest.approx(mcnemar(before, after).p, abs=0.02)


def test_sign_flip_holds_its_level_under_the_hypothesis_with_clusters():
    # Four equal cases a group: a test that took them as independent would reject far more often than 5 %.
    groups = np.repeat(np.arange(40), 4)
    rejections = [
        sign_flip(np.repeat(np.random.default_rng(seed).choice([-1, 0, 1], 40), 4), groups, draws=500) < 0.05
        for seed in range(200)
    ]
    assert sum(rejections) <= 20


def test_bootstrap_agrees_with_scipy_on_independent_cases():
    values = (RNG.random(300) < 0.7).astype(float)
    ours = bootstrap(values, own_groups(300))
    theirs = scipy_bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1))
    assert ours.value == values.mean()
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.008)


def test_bootstrap_of_groups_is_not_fooled_by_repeated_cases():
    values = (RNG.random(200) < 0.6).astype(float)
    once = bootstrap(values, own_groups(200))
    tenfold = bootstrap(np.repeat(values, 10), np.repeat(own_groups(200), 10))
    assert (tenfold.low, tenfold.high) == (once.low, once.high)


def test_macro_bootstrap_agrees_with_resampling_case_by_case():
    codes = np.repeat(["DR", "AMD", "CSR"], [60, 25, 6])
    values = (RNG.random(91) < np.repeat([0.9, 0.5, 0.2], [60, 25, 6])).astype(float)
    naive = []
    for _ in range(3000):
        pick = RNG.integers(0, 91, 91)
        naive.append(np.mean([values[pick][codes[pick] == code].mean() for code in np.unique(codes[pick])]))
    ours = bootstrap(values, own_groups(91), codes)
    assert ours.value == pytest.approx(np.mean([values[codes == code].mean() for code in ("DR", "AMD", "CSR")]))
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(naive, [0.025, 0.975])), abs=0.02)


def test_bootstrap_is_seeded_and_does_not_depend_on_the_groups_names():
    values, groups = (RNG.random(500) < 0.5).astype(float), RNG.integers(0, 200, 500)
    first = bootstrap(values, groups, draws=1000, seed=3)
    assert first == bootstrap(values, np.char.add("patient ", groups.astype(str)), draws=1000, seed=3)
    assert first != bootstrap(values, groups, draws=1000, seed=4)


def test_per_class_counts_and_intervals():
    table = per_class([1, 0, 1, 1, 0], ["DR", "DR", "DR", "AMD", "DR"])
    assert table["code"].tolist() == ["DR", "AMD"]
    assert table["n"].tolist() == [4, 1]
    assert table["accuracy"].tolist() == [0.5, 1.0]
    assert table.loc[0, ["low", "high"]].tolist() == [wilson(2, 4).low, wilson(2, 4).high]


def test_summary_names_the_ten_classes_that_are_present():
    codes = ["Health"] * 6 + ["DR"] * 3 + ["AMD"]
    values = [1] * 6 + [1, 0, 0] + [0]
    summary = summarise(values, codes, own_groups(10), draws=200)
    assert summary.ten_class_present == ("AMD", "DR")
    assert summary.ten_class.value == pytest.approx((1 / 3 + 0) / 2)
    assert summary.macro.value == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert summary.overall.value == summary.wilson.value == 0.7
    without = summarise([1, 0], ["Health", "Drusen"], ["a", "b"], draws=50)
    assert without.ten_class_present == ()
    assert np.isnan(without.ten_class.value)


def test_comparison_of_a_planted_difference():
    n = 1500
    groups, codes = RNG.integers(0, 700, n), RNG.choice(["DR", "AMD", "Health"], n)
    before = (RNG.random(n) < 0.5).astype(int)
    after = np.where(RNG.random(n) < 0.15, 1, before)
    result = compare(before, after, codes, groups, draws=2000)
    assert result.overall.value == pytest.approx((after - before).mean())
    assert 0 < result.overall.low < result.overall.value < result.overall.high
    assert result.mcnemar is not None
    assert result.mcnemar.p < 1e-6
    assert result.sign_flip_p < 0.01
    null = compare(before, before, codes, groups, draws=200)
    assert (null.overall.low, null.overall.high, null.sign_flip_p) == (0, 0, 1)


def test_seeds_are_averaged_per_case_and_not_pooled():
    one = (RNG.random(300) < 0.6).astype(float)
    seeds = np.stack([one, one, one])
    averaged = average_seeds(seeds)
    assert bootstrap(averaged, own_groups(300)) == bootstrap(one, own_groups(300))
    mixed = average_seeds([[1, 0, 1], [0, 0, 1]])
    assert mixed.tolist() == [0.5, 0, 1]
    assert compare(mixed, [1, 0, 1], ["DR"] * 3, list("abc"), draws=50).mcnemar is None
    with pytest.raises(ValueError, match=r"\[seeds, cases\]"):
        average_seeds([1, 0, 1])


def test_informedness_is_zero_for_the_blind_and_one_for_the_oracle():
    questions = draw(TABLE14, "balanced", count=800).questions
    options, answers = [question.codes for question in questions], [question.answer for question in questions]
    order = {code: place for place, code in enumerate(diseases())}
    blind = [max(range(4), key=lambda index: order[four[index]]) for four in options]
    table = informedness(options, answers, blind)
    assert table["informedness"].abs().max() == pytest.approx(0, abs=1e-12)
    assert table["picked_when_true"].max() == 1  # though that class's own accuracy looks perfect
    assert (informedness(options, answers, answers)["informedness"] == 1).all()
    assert (table["false"] == 3 * table["true"]).all()


def test_ten_classes_are_codes_of_the_table():
    assert set(TEN_CLASSES) <= {disease.code for disease in benchmark_classes()}
    assert len(set(TEN_CLASSES)) == 10


@pytest.mark.parametrize("wrong", [[1, 0], [[1, 0, 1]]])
def test_arrays_of_different_length_are_refused(wrong):
    with pytest.raises(ValueError, match="one entry a case"):
        bootstrap(wrong, ["a", "b", "c"])
