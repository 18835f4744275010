"""The probe finds what is in the features and nothing else, and its strength is the best of the grid on validation."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from mgll.evaluation.metrics import auc
from mgll.evaluation.probe import STRENGTHS, fit_probe, neighbour_scores

WEIGHTS = np.random.default_rng(9).normal(size=(12, 3)) * [1.5, 0.4, 0.0]


def drawn(seed, count=400):
    """Features, and three classes: a plain one, a faint one, and one that has nothing to do with them."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 12)) * 3 + 5
    return features, rng.random((count, 3)) < expit((features - 5) / 3 @ WEIGHTS - 1)


def test_a_planted_class_is_found_and_a_random_one_is_not():
    probe, (features, truth) = fit_probe(*drawn(0), *drawn(1)), drawn(2, 2000)
    plain, faint, none = (auc(truth[:, c], probe.scores(features)[:, c]) for c in range(3))
    best = [auc(truth[:, c], features @ WEIGHTS[:, c]) for c in range(2)]
    assert best[0] - 0.02 < plain <= best[0]
    assert best[1] - 0.04 < faint <= best[1] < plain
    assert 0.45 < none < 0.55


def test_strength_and_scores_are_those_of_scikit_learn_fitted_anew_for_every_strength():
    (train, truth), (validation, judges) = drawn(0, 200), drawn(1)
    probe, scaler = fit_probe(train, truth, validation, judges), StandardScaler().fit(train)
    read, fresh = {}, {}
    for strength in STRENGTHS:
        models = [
            LogisticRegression(C=strength, class_weight="balanced", max_iter=2000).fit(
                scaler.transform(train), truth[:, c]
            )
            for c in range(3)
        ]
        fresh[strength] = np.stack([model.decision_function(scaler.transform(validation)) for model in models], axis=1)
        read[strength] = roc_auc_score(judges, fresh[strength])
    for strength, value in probe.tried.items():
        assert value == pytest.approx(read[strength], abs=2e-3)
    assert read[probe.strength] == pytest.approx(max(read.values()), abs=2e-3)
    shift = probe.scores(validation) - fresh[probe.strength]
    np.testing.assert_allclose(shift, np.broadcast_to(shift.mean(axis=0), shift.shape), atol=0.02)


def test_strengths_are_tried_from_the_strongest_on_and_the_hopeless_left():
    rng = np.random.default_rng(3)
    truth = rng.random((60, 1)) < 0.5
    features = rng.normal(size=(60, 50)) + truth * 0.5
    probe = fit_probe(features[:30], truth[:30], features[30:], truth[30:])
    assert tuple(probe.tried) == STRENGTHS[: len(probe.tried)]
    assert probe.tried[probe.strength] == max(probe.tried.values())


def test_the_sigmoid_of_a_score_is_a_probability_at_the_classes_own_frequency():
    probe, (features, truth) = fit_probe(*drawn(0, 4000), *drawn(1, 4000)), drawn(2, 4000)
    np.testing.assert_allclose(expit(probe.scores(features)).mean(axis=0), truth.mean(axis=0), atol=0.03)


def test_a_class_that_cannot_be_learned_has_equal_scores_and_is_named():
    train, truth = drawn(0)
    truth[:, 1], truth[:, 2] = False, True
    probe = fit_probe(train, truth, *drawn(1))
    assert probe.not_fitted == (1, 2)
    assert np.ptp(probe.scores(train)[:, 1:], axis=0).tolist() == [0, 0]
    assert np.isfinite(probe.scores(train)).all()


def test_validation_that_cannot_choose_is_refused_unless_there_is_nothing_to_choose():
    train, truth = drawn(0)
    nothing = np.zeros((0, 12)), np.zeros((0, 3), dtype=bool)
    with pytest.raises(ValueError, match="by which a strength could be chosen"):
        fit_probe(train, truth, *nothing)
    assert fit_probe(train, truth, *nothing, strengths=[0.1]).strength == 0.1


def test_a_channel_that_never_changes_does_no_harm():
    train, truth = drawn(0)
    train[:, 0] = 7
    assert np.isfinite(fit_probe(train, truth, *drawn(1)).scores(drawn(2)[0])).all()


def test_neighbours_are_weighed_by_their_cosine():
    (train, truth), (features, _) = drawn(0, 80), drawn(1, 20)
    found = expit(neighbour_scores(train, truth, features, neighbours=7))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (train, features)]
    likeness = unit[1] @ unit[0].T
    for row, shares in zip(likeness, found, strict=True):
        near = np.argsort(-row)[:7]
        weights = np.exp(row[near] / 0.07)
        expected = (weights @ truth[near]) / weights.sum()
        np.testing.assert_allclose(shares, expected.clip(1e-6, 1 - 1e-6), atol=1e-9)
    assert neighbour_scores(train[:3], truth[:3], features).shape == (20, 3)
