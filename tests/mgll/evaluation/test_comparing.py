"""Seeds and patients as random: the influence of patients is that of leaving them out, and claims hold their level."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from benchmark.stats.seeds import difference_over_seeds, number_over_seeds
from mgll.evaluation.comparing import Side, auc_influence, mean_of, side_of
from mgll.evaluation.reading import Reading

SHARES = np.array([0.35, 0.2, 0.12, 0.08, 0.05, 0.04])
SIGNAL, SKILL, PHOTOGRAPH, OWN = 1.0, 0.15, 0.7, 0.7


def images(rng, patients=250):
    """Patients with one to three images, whose classes and looks resemble each other."""
    of_image = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    leaning = rng.normal(size=(patients, len(SHARES)))[of_image] + rng.normal(size=(len(of_image), len(SHARES)))
    truth = leaning > norm.isf(SHARES) * np.sqrt(2)
    looks = rng.normal(size=(patients, len(SHARES)))[of_image] + rng.normal(size=(len(of_image), len(SHARES)))
    return of_image, truth, PHOTOGRAPH * looks / np.sqrt(2)


def run(rng, study):
    """One run of a method: more or less skilled than others for each class, and with an eye of its own."""
    of_image, truth, looks = study
    skill = SIGNAL + SKILL * rng.normal(size=len(SHARES))
    scores = truth * skill + looks + OWN * rng.normal(size=truth.shape)
    names = tuple(map(str, range(len(truth))))
    patients = tuple(("", str(patient)) for patient in of_image)
    return Reading("probe", tuple("abcdef"), names, patients, truth, scores)


def expected_auc():
    """Mean over runs of the AUC over all patients there could be."""
    points, weights = np.polynomial.hermite_e.hermegauss(30)
    return float(weights @ norm.cdf((SIGNAL + SKILL * points) / np.sqrt(2 * (PHOTOGRAPH**2 + OWN**2))) / weights.sum())


def test_the_macro_auc_and_its_sum_over_patients():
    rng = np.random.default_rng(0)
    study = images(rng)
    readings = [run(rng, study) for _ in range(3)]
    side = side_of(readings)
    assert side.values == pytest.approx([roc_auc_score(study[1], reading.scores) for reading in readings], abs=1e-12)
    assert side.influence.shape == (3, len(set(study[0])))
    assert np.abs(side.influence.sum(axis=1)).max() < 0.02


def test_influence_is_what_leaving_a_patient_out_changes():
    rng = np.random.default_rng(1)
    of_image, truth, looks = images(rng, 150)
    t, s = truth[:, 0], truth[:, 0] + looks[:, 0]
    value, influence = auc_influence(t, s, of_image)
    left = np.array([roc_auc_score(t[of_image != patient], s[of_image != patient]) for patient in range(150)])
    assert np.corrcoef(influence, value - left)[0, 1] > 0.999
    jackknife = 149 / 150 * ((left - left.mean()) ** 2).sum()
    assert (influence**2).sum() == pytest.approx(jackknife, rel=0.03)


def test_with_one_image_a_patient_the_variance_is_delongs():
    rng = np.random.default_rng(2)
    truth = rng.random(200) < 0.2
    scores = rng.normal(size=200) + truth
    likeness = (scores[truth][:, None] > scores[~truth]).astype(float)
    expected = likeness.mean(1).var(ddof=1) / truth.sum() + likeness.mean(0).var(ddof=1) / (~truth).sum()
    assert (auc_influence(truth, scores, np.arange(200))[1] ** 2).sum() == pytest.approx(expected, rel=1e-9)


def test_readings_of_other_images_are_not_compared():
    rng = np.random.default_rng(3)
    first, second = (run(rng, images(rng)) for _ in range(2))
    with pytest.raises(ValueError, match="not read on the same images"):
        side_of([first, second])


def test_sources_are_averaged_run_by_run():
    one, two = Side(np.array([0.6, 0.8]), np.ones((2, 3))), Side(np.array([0.8, 0.8]), np.ones((2, 5)))
    both = mean_of([one, two])
    assert both.values == pytest.approx([0.7, 0.8])
    assert both.influence.shape == (2, 8)
    assert np.unique(both.influence).tolist() == [0.5]


@pytest.mark.slow
@pytest.mark.parametrize("runs", [3, 5])
def test_intervals_cover_and_tests_hold_their_size(runs):
    # 150 studies: at a size of 5 % more than 10 % of false findings come up in one of a few hundred such tests
    rng, covered, found, truth = np.random.default_rng(10 + runs), 0, 0, expected_auc()
    for _ in range(150):
        study = images(rng)
        sides = [side_of([run(rng, study) for _ in range(runs)]) for _ in range(2)]
        estimate = number_over_seeds(sides[0].values, sides[0].influence).estimate
        covered += estimate.low <= truth <= estimate.high
        found += difference_over_seeds([s.values for s in sides], [s.influence for s in sides]).p < 0.05
    assert covered / 150 >= 0.9
    assert found / 150 <= 0.1


def test_a_better_method_is_found():
    rng = np.random.default_rng(4)
    study = images(rng, 800)
    worse, better = ([run(rng, study) for _ in range(5)] for _ in range(2))
    better = [Reading(r.name, r.classes, r.images, r.patients, r.truth, r.scores + 0.5 * r.truth) for r in better]
    sides = [side_of(side) for side in (worse, better)]
    difference = difference_over_seeds([s.values for s in sides], [s.influence for s in sides])
    assert difference.p < 1e-4
    assert 0.03 < difference.estimate.low < difference.estimate.value
    assert difference.runs == (5, 5)
