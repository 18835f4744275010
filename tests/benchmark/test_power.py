"""Detectable differences against published figures, brute force and simulation."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from benchmark.stats.bootstrap import resamples
from benchmark.stats.power import design_effect, detectable, detectable_difference, mcnemar_power
from benchmark.stats.significance import mcnemar, sign_flip


def own_groups(n: int) -> np.ndarray:
    return np.arange(n).astype(str)


def two_runs(
    random: np.random.Generator, n: int, discordant: float, difference: float
) -> tuple[np.ndarray, np.ndarray]:
    """0/1 values of two runs of which the second is better by `difference`."""
    kind = random.choice(3, n, p=[1 - discordant, (discordant - difference) / 2, (discordant + difference) / 2])
    agreed = random.random(n) < 0.6
    return np.where(kind == 0, agreed, kind == 1).astype(int), np.where(kind == 0, agreed, kind == 2).astype(int)


@pytest.mark.parametrize(("discordant", "points"), [(0.05, 1.3), (0.10, 1.9), (0.20, 2.7), (0.30, 3.3)])
def test_the_papers_number_of_cases_could_show_one_to_three_points(discordant, points):
    for test in ("exact", "mid-p"):
        assert 100 * detectable_difference(2233, discordant, test=test) == pytest.approx(points, abs=0.065)


@pytest.mark.parametrize("discordant", [0.05, 0.1, 0.2, 0.3])
def test_the_normal_approximation_lies_between_mid_p_and_exact(discordant):
    n, level, power = 2233, norm.ppf(0.975), norm.ppf(0.8)
    # Connor 1987: level sqrt(discordant) + power sqrt(discordant - d^2) = d sqrt(n), solved for d.
    a, b, c = n + power**2, -2 * level * np.sqrt(n * discordant), discordant * (level**2 - power**2)
    connor = (-b + np.sqrt(b * b - 4 * a * c)) / (2 * a)
    exact, mid_p = (detectable_difference(n, discordant, test=test) for test in ("exact", "mid-p"))
    assert mid_p == pytest.approx(connor, rel=0.005)
    assert connor < exact < 1.04 * connor


def test_power_is_the_sum_over_all_outcomes():
    n, both, better = 12, 0.5, 0.4  # 40 % only the second, 10 % only the first
    total = 0.0
    for first in range(n + 1):
        for second in range(n + 1 - first):
            neither = n - first - second
            ways = np.prod(np.arange(1, n + 1.0)) / np.prod(
                [np.prod(np.arange(1, k + 1.0)) for k in (first, second, neither)]
            )
            if first + second and binomtest(first, first + second).pvalue <= 0.05:
                total += ways * (both - better) ** first * better**second * (1 - both) ** neither
    assert mcnemar_power(n, both, 2 * better - both) == pytest.approx(total)


def test_a_simulated_experiment_finds_the_difference_as_often_as_promised():
    random, n, discordant = np.random.default_rng(3), 400, 0.2
    smallest = detectable_difference(n, discordant)
    tests = [mcnemar(*two_runs(random, n, discordant, smallest)) for _ in range(1500)]
    assert np.mean([test.p <= 0.05 for test in tests]) == pytest.approx(0.8, abs=0.03)
    by_mid_p = mcnemar_power(n, discordant, smallest, test="mid-p")
    assert np.mean([test.mid_p <= 0.05 for test in tests]) == pytest.approx(by_mid_p, abs=0.03)
    assert by_mid_p > 0.8


def test_power_under_no_difference_is_the_size_of_the_test():
    assert mcnemar_power(500, 0.2, 0) <= 0.05
    assert mcnemar_power(500, 0.2, -0.06) == mcnemar_power(500, 0.2, 0.06)
    assert mcnemar_power(500, 0, 0) == 0
    with pytest.raises(ValueError, match="discordant"):
        mcnemar_power(500, 0.1, 0.2)


def test_little_discordance_leaves_the_change_that_breaks_nothing():
    smallest = detectable_difference(2233, 0)
    assert smallest == pytest.approx(detectable_difference(2233, 0.001), abs=1e-5)
    assert mcnemar_power(2233, smallest, smallest) == pytest.approx(0.8, abs=1e-3)
    assert 6 < 2233 * smallest < 10  # six cases one way are the fewest that reach 5 %


def test_five_cases_can_show_nothing():
    assert np.isnan(detectable_difference(5, 0.5))
    assert detectable_difference(6, 0.5) > 0.9
    with pytest.raises(ValueError, match="n is 0"):
        detectable_difference(0, 0.5)


def test_design_effect_is_the_ratio_of_the_two_bootstraps_variances():
    random = np.random.default_rng(5)
    groups = random.integers(0, 150, 600)
    values = (random.random(600) < random.beta(1, 1, 150)[groups]).astype(float)
    totals, sizes = np.bincount(groups, weights=values, minlength=150), np.bincount(groups, minlength=150)
    clustered = np.concatenate([(times @ totals) / (times @ sizes) for times in resamples(150)])
    binomial = values.mean() * (1 - values.mean()) / 600
    assert design_effect(values, groups) == pytest.approx(clustered.var() / binomial, rel=0.05)
    assert design_effect(values, groups) > 1.5


def test_design_effect_of_single_cases_is_one_and_of_copies_their_number():
    values = (np.random.default_rng(6).random(200) < 0.7).astype(float)
    assert design_effect(values, own_groups(200)) == pytest.approx(1)
    assert design_effect(np.repeat(values, 3), np.repeat(own_groups(200), 3)) == pytest.approx(3)
    assert design_effect(np.ones(4), list("aabb")) == 1
    with pytest.raises(ValueError, match="one entry a case"):
        design_effect(values, own_groups(3))


def test_copied_cases_promise_no_more_than_the_cases_themselves():
    before, after = two_runs(np.random.default_rng(7), 300, 0.2, 0.05)
    once = detectable(before, after, own_groups(300))
    copied = detectable(*(np.repeat(run, 4) for run in (before, after)), np.repeat(own_groups(300), 4))
    assert (copied.n, copied.groups, copied.effective_n) == (1200, 300, 300)
    assert copied.difference == once.difference == detectable_difference(300, once.discordant)
    assert copied.discordant == once.discordant == (before != after).mean()


@pytest.mark.slow
def test_with_clusters_the_sign_flip_test_finds_the_difference_about_as_often_as_promised():
    # Pairs of cases that agree half of the time: the figure for independent cases would promise too much.
    random = np.random.default_rng(8)

    def clustered(difference: float) -> tuple[np.ndarray, np.ndarray]:
        before, after = (run.reshape(200, 2) for run in two_runs(random, 400, 0.2, difference))
        same = random.random(200) < 0.5
        before[same, 1], after[same, 1] = before[same, 0], after[same, 0]
        return before.ravel(), after.ravel()

    groups = np.repeat(own_groups(200), 2)
    effects = [detectable(*clustered(0.05), groups).design_effect for _ in range(50)]
    assert np.mean(effects) == pytest.approx(1.5, abs=0.1)
    smallest = detectable_difference(int(400 / 1.5), 0.2)
    found = 0
    for seed in range(200):
        before, after = clustered(smallest)
        found += sign_flip(after - before, groups, draws=400, seed=seed) < 0.05
    assert found / 200 == pytest.approx(0.8, abs=0.08)


def test_a_design_effect_below_one_does_not_make_more_of_the_cases():
    before, after = np.array([1, 0] * 100), np.array([0, 1] * 100)  # each group fixes one case and breaks one
    result = detectable(before, after, np.repeat(own_groups(100), 2))
    assert result.design_effect == pytest.approx(0)
    assert result.effective_n == 200
