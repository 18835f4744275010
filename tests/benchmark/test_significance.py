"""Intervals and tests against closed forms, brute force and scipy's own."""

from itertools import product
from math import comb

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import bootstrap as scipy_bootstrap

from benchmark.stats.significance import bootstrap, clustered_share, mcnemar, sign_flip, wilson
from mgll.vocabulary.diseases import TEN_CLASSES, benchmark_classes

RNG = np.random.default_rng(7)


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


def test_mcnemar_refuses_anything_but_right_and_wrong():
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


def test_ten_classes_are_codes_of_the_table():
    assert set(TEN_CLASSES) <= {disease.code for disease in benchmark_classes()}
    assert len(set(TEN_CLASSES)) == 10


@pytest.mark.parametrize("wrong", [[1, 0], [[1, 0, 1]]])
def test_arrays_of_different_length_are_refused(wrong):
    with pytest.raises(ValueError, match="one entry a case"):
        bootstrap(wrong, ["a", "b", "c"])


def test_a_clustered_share_is_wilsons_for_independent_cases_but_for_students_t():
    values = (RNG.random(500) < 0.3).astype(float)
    ours, plain = clustered_share(values, own_groups(500)), wilson(values.sum(), 500)
    assert (ours.value, ours.low, ours.high) == (
        plain.value,
        pytest.approx(plain.low, abs=1e-3),
        pytest.approx(plain.high, abs=1e-3),
    )


def test_a_clustered_share_counts_equal_cases_of_a_patient_once():
    values = np.repeat((RNG.random(60) < 0.4).astype(float), 5)
    groups = np.repeat(np.arange(60), 5)
    ours, once = clustered_share(values, groups), clustered_share(values[::5], groups[::5])
    assert (ours.low, ours.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert ours.high - ours.low > 2 * (wilson(values.sum(), 300).high - wilson(values.sum(), 300).low)


def test_a_clustered_share_without_scatter_is_as_unsure_as_its_patients_are_few():
    always = clustered_share(np.ones(50), np.repeat(["a", "b", "c", "d", "e"], 10))
    assert always.value == always.high == 1
    assert always.low < wilson(5, 5).low
    assert 0 <= clustered_share([1, 1], ["a", "a"]).low < 0.1
    assert np.isnan(clustered_share([], []).value)


def test_a_clustered_share_covers_at_the_design_effect_of_real_questions():
    # 60 patients with three to seven questions each, mostly answered alike: the design effect is about 3.5.
    rng, covered, of_cases = np.random.default_rng(5), 0, 0
    for _ in range(600):
        groups = np.repeat(np.arange(60), rng.integers(3, 8, 60))
        ability = rng.beta(0.35, 0.5, 60)
        values = (rng.random(len(groups)) < ability[groups]).astype(float)
        truth = 0.35 / 0.85
        ours, cases = clustered_share(values, groups), wilson(values.sum(), len(values))
        covered += ours.low <= truth <= ours.high
        of_cases += cases.low <= truth <= cases.high
    assert 0.93 <= covered / 600 <= 0.975
    assert of_cases / 600 < 0.8
