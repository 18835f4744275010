"""Brier score and calibration error by hand, against scikit-learn, and on models whose calibration is known."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from benchmark.stats.calibration import (
    BINS,
    brier_scores,
    calibrate,
    equal_mass_bins,
    equal_width_bins,
    reliability_table,
)
from benchmark.stats.significance import wilson


def expected_calibration_error(probabilities, answers, bins=BINS, equal_mass=True):
    """Distance between confidence and accuracy of the bins, weighted by their cases: what `calibrate` computes without a table."""
    table = reliability_table(probabilities, answers, bins, equal_mass)
    return float(np.average((table["confidence"] - table["accuracy"]).abs(), weights=table["n"]))


def own_groups(n: int) -> np.ndarray:
    return np.arange(n).astype(str)


def softmax(scores: np.ndarray) -> np.ndarray:
    odds = np.exp(scores)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def model(n: int, sharpness: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What a model says, and answers drawn from softmax(scores): calibrated at sharpness 1, over-confident above."""
    random = np.random.default_rng(seed)
    scores = random.normal(0, 1.5, (n, 4))
    answers = (random.random((n, 1)) > softmax(scores).cumsum(axis=1)).sum(axis=1)
    return softmax(sharpness * scores), np.minimum(answers, 3)


def confident(*confidences: float) -> np.ndarray:
    """Rows whose first option has the probability given, the others the rest alike."""
    first = np.array(confidences)[:, None]
    return np.hstack([first, np.repeat((1 - first) / 3, 3, axis=1)])


def test_brier_score_by_hand():
    probabilities = [[0.7, 0.1, 0.1, 0.1], [0.25] * 4, [1, 0, 0, 0], [1, 0, 0, 0]]
    expected = [0.3**2 + 3 * 0.1**2, 0.75, 0, 2]
    assert brier_scores(probabilities, [0, 2, 0, 1]) == pytest.approx(expected)


def test_brier_score_is_scikit_learns_unscaled():
    probabilities, answers = model(300, 2, seed=1)
    theirs = brier_score_loss(answers, probabilities, labels=[0, 1, 2, 3], scale_by_half=False)
    assert calibrate(probabilities, answers, own_groups(300), draws=50).brier.value == pytest.approx(theirs)


def test_skill_is_one_for_the_oracle_and_zero_for_a_quarter_each():
    answers = np.arange(40) % 4
    oracle = calibrate(np.eye(4)[answers], answers, own_groups(40), draws=50)
    assert (oracle.brier_skill.value, oracle.ece.value, oracle.overconfidence.value) == (1, 0, 0)
    quarter = calibrate(np.full((40, 4), 0.25), answers, own_groups(40), draws=50)
    assert (quarter.brier_skill.value, quarter.ece.value) == pytest.approx((0, 0))
    wrong = calibrate(np.eye(4)[(answers + 1) % 4], answers, own_groups(40), draws=50)
    assert (wrong.brier.value, wrong.ece.value, wrong.overconfidence.value) == (2, 1, 1)
    assert wrong.brier_skill.value == pytest.approx(1 - 2 / 0.75)


def test_calibration_error_by_hand():
    probabilities = confident(0.41, 0.45, 0.49, 0.9, 0.92, 0.94, 0.96, 0.98)
    answers = [0, 1, 1, 0, 0, 0, 0, 1]
    # Widths of a tenth: three cases at 0.45, one of three right; five at 0.94, four of five right.
    table = reliability_table(probabilities, answers, bins=10, equal_mass=False)
    assert table["bin"].tolist() == [4, 8, 9]  # 0.9 itself closes its bin
    assert table["n"].tolist() == [3, 1, 4]
    assert table["confidence"].tolist() == pytest.approx([0.45, 0.9, 0.95])
    assert table["accuracy"].tolist() == pytest.approx([1 / 3, 1, 3 / 4])
    assert table.loc[2, ["low", "high"]].tolist() == [wilson(3, 4).low, wilson(3, 4).high]
    expected = (3 * (0.45 - 1 / 3) + 1 * 0.1 + 4 * 0.2) / 8
    assert expected_calibration_error(probabilities, answers, equal_mass=False) == pytest.approx(expected)
    halves = (4 * abs((0.41 + 0.45 + 0.49 + 0.9) / 4 - 1 / 2) + 4 * abs(0.95 - 3 / 4)) / 8
    assert expected_calibration_error(probabilities, answers, bins=2) == pytest.approx(halves)
    result = calibrate(probabilities, answers, own_groups(8), bins=2, draws=50)
    assert result.ece.value == pytest.approx(halves)
    assert result.reliability.equals(reliability_table(probabilities, answers, bins=2))
    assert result.overconfidence.value == pytest.approx(probabilities.max(axis=1).mean() - 5 / 8)


def test_bins_are_equally_full_and_never_part_equal_confidences():
    random = np.random.default_rng(2)
    assert np.bincount(equal_mass_bins(random.random(1000), 10)).tolist() == [100] * 10
    tied = np.repeat([0.3, 0.6, 0.9], [10, 70, 20])
    bins = equal_mass_bins(tied, 10)
    assert [len(set(bins[tied == value])) for value in (0.3, 0.6, 0.9)] == [1, 1, 1]
    assert equal_width_bins(np.array([0.25, 0.3, 0.31, 1.0]), 10).tolist() == [2, 2, 3, 9]


def test_a_calibrated_model_shows_only_what_chance_gives():
    within = 0
    for seed in range(20):
        probabilities, answers = model(800, 1, seed)
        result = calibrate(probabilities, answers, own_groups(800), draws=400)
        within += result.ece_if_calibrated.low <= result.ece.value <= result.ece_if_calibrated.high
        assert result.overconfidence.low < 0.02
        assert result.overconfidence.high > -0.02
    assert within >= 17  # of 20 at 95 %; fewer happens less than once in 100 times


def test_what_chance_gives_agrees_with_drawing_answers():
    probabilities, _ = model(500, 1, seed=3)
    random, confidence = np.random.default_rng(4), probabilities.max(axis=1)
    top = probabilities.argmax(axis=1)
    drawn = []
    for _ in range(200):
        right = random.random(500) < confidence
        drawn.append(expected_calibration_error(probabilities, np.where(right, top, (top + 1) % 4)))
    chance = calibrate(probabilities, top, own_groups(500), draws=4000).ece_if_calibrated
    assert chance.value == pytest.approx(np.mean(drawn), rel=0.06)
    assert chance.high == pytest.approx(np.quantile(drawn, 0.975), rel=0.12)


def test_an_over_confident_model_is_found_and_its_error_lies_in_the_interval():
    truth = expected_calibration_error(*model(200_000, 2, seed=5))
    covered = 0
    for seed in range(20):
        probabilities, answers = model(800, 2, seed)
        result = calibrate(probabilities, answers, own_groups(800), draws=400)
        assert result.ece.low > result.ece_if_calibrated.high
        assert result.overconfidence.low > 0
        covered += result.ece.low <= truth <= result.ece.high
    assert truth > 0.1
    assert covered >= 16


def test_intervals_draw_whole_groups():
    probabilities, answers = model(200, 1.5, seed=6)
    once = calibrate(probabilities, answers, own_groups(200), draws=300)
    copied = calibrate(
        np.repeat(probabilities, 5, axis=0), np.repeat(answers, 5), np.repeat(own_groups(200), 5), draws=300
    )
    assert copied.groups == 200
    assert (copied.brier.low, copied.brier.high) == pytest.approx((once.brier.low, once.brier.high))
    assert (copied.ece.low, copied.ece.high) == pytest.approx((once.ece.low, once.ece.high), abs=0.02)
    assert copied.brier_skill.low == pytest.approx(1 - copied.brier.high / 0.75)


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        brier_scores([[0.5, 0.5, 0.5, 0.5]], [0])
    with pytest.raises(ValueError, match="sum to 1"):
        brier_scores([[np.nan] * 4], [0])
    with pytest.raises(ValueError, match=r"found \(1, 3\)"):
        brier_scores([[0.5, 0.5, 0]], [0])
    with pytest.raises(ValueError, match="0 to 3"):
        brier_scores([[1, 0, 0, 0]], [-1])
