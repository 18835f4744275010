"""The linear probe finds what is in the features and nothing else, and says what it left out by size."""

import numpy as np
import pytest

from mgll.linear_probe import macro_auc, probe


def planted(seed, count=300):
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 12))
    labels = [{"DR"} if row[0] > 0.5 else {"Health"} for row in features]
    for index in random.choice(count, 60, replace=False):
        labels[index] = labels[index] | {"Drusen"}  # unrelated to the features
    return features, labels


def test_a_planted_class_is_found_and_a_random_one_is_not():
    train, test = planted(0), planted(1)
    results = {result.label: result for result in probe(*train, *test)}
    assert results["DR"].auc > 0.97
    assert 0.35 < results["Drusen"].auc < 0.65
    assert results["DR"].positives == sum("DR" in labels for labels in test[1])
    assert results["DR"].positives + results["DR"].negatives == 300


def test_small_classes_are_left_out_and_can_be_kept_from_the_mean():
    train, test = planted(0), planted(1)
    train[1][0], test[1][0] = {"MH"}, {"MH"}
    results = probe(*train, *test)
    assert "MH" not in {result.label for result in results}
    assert macro_auc(results, min_positives=100) == pytest.approx(
        np.mean([result.auc for result in results if result.positives >= 100])
    )
