"""Every number equals that of scikit-learn, and of torchmetrics where it is installed, on random inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import composite, floats, integers, sampled_from
from scipy.special import expit, softmax
from sklearn import metrics as sk

from mgll.evaluation.metrics import SPECIFICITY, auc, calibration_error, placements, sensitivity_at, summarise

CLOSE = {"rel": 0, "abs": 1e-9}


@composite
def odd_tables(draw, multi_class):
    """Truth and scores of few images, with ties, scores that are all equal, logits that saturate, and classes of one image."""
    images, classes = draw(integers(4, 30)), draw(integers(2 if multi_class else 1, 4))
    rng = np.random.default_rng(draw(integers(0, 2**32 - 1)))
    if multi_class:
        truth = np.eye(classes, dtype=bool)[np.r_[:classes, rng.integers(0, classes, images - classes)]]
    else:
        truth = rng.random((images, classes)) < draw(floats(0.02, 0.98))
        truth[0], truth[1] = True, False  # both kinds of each, and never one class for each image
        truth[2] = rng.random(classes) < 0.5
    scores = rng.normal(scale=draw(sampled_from([1e-12, 1.0, 30.0])), size=truth.shape) + truth * draw(floats(-2, 2))
    return truth, scores.round(draw(sampled_from([0, 1, 12])))


@given(odd_tables(multi_class=False))
@settings(max_examples=60, deadline=None)
def test_multi_label_numbers_equal_scikit_learn_on_odd_tables(table):
    truth, scores = table
    columns = list(zip(truth.T, scores.T, strict=True))
    found = summarise(truth, scores)
    for number, one in (
        (found.auc, sk.roc_auc_score),
        (found.average_precision, sk.average_precision_score),
        (found.accuracy, lambda t, s: sk.accuracy_score(t, s > 0)),
        (found.class_accuracy, lambda t, s: sk.balanced_accuracy_score(t, s > 0)),
    ):
        assert number == pytest.approx(np.mean([one(*column) for column in columns]), **CLOSE)


@given(odd_tables(multi_class=True))
@settings(max_examples=60, deadline=None)
def test_multi_class_numbers_equal_scikit_learn_on_odd_tables(table):
    truth, scores = table
    found, answer, said = summarise(truth, scores), truth.argmax(axis=1), scores.argmax(axis=1)
    assert found.multi_class
    for number, expected in (
        (found.auc, sk.roc_auc_score(truth, scores, average="macro")),
        (found.average_precision, sk.average_precision_score(truth, scores, average="macro")),
        (found.accuracy, sk.accuracy_score(answer, said)),
        (found.class_accuracy, sk.recall_score(answer, said, average="macro", zero_division=0)),
    ):
        assert number == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_refused(wrong):
    truth, scores = table(0, True)
    scores[3, 2] = wrong
    with pytest.raises(ValueError, match="1 of 300 scores are NaN or infinite"):
        summarise(truth, scores)
    with pytest.raises(ValueError, match="1 of 2 scores are NaN or infinite"):
        calibration_error([True, False], [0.5, wrong])


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        (np.ones((3, 1), bool), "found 3 positives and 0 negatives"),
        (np.array([[True, False]] * 3), "found 3 positives and 0 negatives"),
        (np.array([[True, False], [True, True]]), "found 2 positives and 0 negatives"),
        (np.zeros((0, 2), bool), "needs images and classes, found 0 x 2"),
        (np.zeros((3, 0), bool), "needs images and classes, found 3 x 0"),
    ],
)
def test_a_table_of_one_kind_or_of_nothing_is_refused(truth, said):
    with pytest.raises(ValueError, match=said):
        summarise(truth, np.zeros(truth.shape))


def test_a_score_of_zero_is_no_yes_as_in_scikit_learn_and_torchmetrics():
    truth = np.array([[True], [False], [True], [False]])
    assert summarise(np.hstack([truth, truth]), np.zeros((4, 2))).accuracy == 0.5
    tm = pytest.importorskip("torchmetrics").functional.classification
    torch = pytest.importorskip("torch")
    scores, right = np.array([[0.0, 1], [0, -1], [1, 0], [-1, 1]]), np.array([[0, 1], [0, 0], [1, 1], [1, 0]])
    expected = tm.multilabel_accuracy(torch.tensor(expit(scores)), torch.tensor(right), 2)
    assert summarise(right.astype(bool), scores).accuracy == pytest.approx(float(expected))


def test_a_confidence_of_one_lies_in_the_last_bin():
    assert calibration_error([True, False, False], [1.0, 0.99, 0.98]) == pytest.approx((2.97 - 1) / 3)


def table(seed, multi_class, images=300, classes=5):
    rng = np.random.default_rng(seed)
    if multi_class:
        truth = np.eye(classes, dtype=bool)[rng.integers(0, classes, images)]
    else:
        truth = rng.random((images, classes)) < rng.uniform(0.05, 0.5, classes)
    return truth, rng.normal(size=(images, classes)) + truth


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_scikit_learn_with_and_without_ties(seed, ties):
    truth, scores = table(seed, False)
    scores = scores.round(1) if ties else scores
    for column in range(5):
        expected = sk.roc_auc_score(truth[:, column], scores[:, column])
        assert auc(truth[:, column], scores[:, column]) == pytest.approx(expected, **CLOSE)
        places = placements(truth[:, column], scores[:, column])
        assert places[~truth[:, column]].mean() == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_an_auc_without_both_kinds_of_images_is_refused_not_nan(truth):
    with pytest.raises(ValueError, match="needs both kinds of images"):
        auc(truth, [0.1, 0.2])


@pytest.mark.parametrize("seed", range(3))
def test_multi_label_numbers_equal_scikit_learn(seed):
    truth, scores = table(seed, False)
    found = summarise(truth, scores)
    assert not found.multi_class
    assert found.auc == pytest.approx(sk.roc_auc_score(truth, scores, average="macro"), **CLOSE)
    assert found.average_precision == pytest.approx(sk.average_precision_score(truth, scores, average="macro"), **CLOSE)
    said = expit(scores) > 0.5
    by_class = [
        (sk.accuracy_score(t, s), sk.balanced_accuracy_score(t, s)) for t, s in zip(truth.T, said.T, strict=True)
    ]
    assert (found.accuracy, found.class_accuracy) == pytest.approx(tuple(np.mean(by_class, axis=0)), **CLOSE)


@pytest.mark.parametrize("seed", range(3))
def test_multi_class_numbers_equal_scikit_learn(seed):
    truth, scores = table(seed, True)
    found, answer, said = summarise(truth, scores), truth.argmax(axis=1), scores.argmax(axis=1)
    assert found.multi_class
    assert found.auc == pytest.approx(sk.roc_auc_score(truth, scores, average="macro"), **CLOSE)
    assert found.accuracy == pytest.approx(sk.accuracy_score(answer, said), **CLOSE)
    assert found.class_accuracy == pytest.approx(sk.balanced_accuracy_score(answer, said), **CLOSE)
    assert found.average_precision == pytest.approx(sk.average_precision_score(truth, scores, average="macro"), **CLOSE)


@pytest.mark.parametrize("specificity", [0.5, SPECIFICITY, 1.0])
def test_sensitivity_is_the_best_over_all_thresholds(specificity):
    truth, scores = table(7, False)
    for t, s in zip(truth.T, scores.round(1).T, strict=True):
        said = s[:, None] >= np.append(np.unique(s), np.inf)
        enough = (~said[~t]).mean(axis=0) >= specificity
        assert sensitivity_at(t, s, specificity) == pytest.approx(said[t].mean(axis=0)[enough].max(), **CLOSE)


def test_calibration_error_is_its_definition_and_small_for_the_truth():
    rng = np.random.default_rng(0)
    confidence = rng.random(20_000)
    right = rng.random(20_000) < confidence
    expected = sum(
        inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
        for low in range(15)
        for inside in [(confidence >= low / 15) & (confidence < (low + 1) / 15)]
    )
    assert calibration_error(right, confidence) == pytest.approx(expected, **CLOSE)
    assert calibration_error(right, confidence) < 0.02
    assert calibration_error(right, confidence**4) > 0.1
    assert calibration_error([True, False], [1.0, 0.0]) == 0


@pytest.mark.parametrize("seed", range(3))
def test_numbers_equal_torchmetrics(seed, in_64_bits):
    tm = pytest.importorskip("torchmetrics").functional.classification
    torch = pytest.importorskip("torch")
    truth, scores = table(seed, False)
    found, said, right = summarise(truth, scores), torch.tensor(expit(scores)), torch.tensor(truth.astype(int))
    for number, expected in (
        (found.auc, tm.multilabel_auroc(said, right, 5)),
        (found.average_precision, tm.multilabel_average_precision(said, right, 5)),
        (found.accuracy, tm.multilabel_accuracy(said, right, 5)),
        (
            found.class_accuracy,
            (tm.multilabel_recall(said, right, 5) + tm.multilabel_specificity(said, right, 5, average="macro")) / 2,
        ),
        (
            found.calibration_error,
            np.mean([tm.binary_calibration_error(said[:, c], right[:, c], 15) for c in range(5)]),
        ),
        (
            found.sensitivity,
            np.mean([tm.binary_sensitivity_at_specificity(said[:, c], right[:, c], SPECIFICITY)[0] for c in range(5)]),
        ),
    ):
        assert number == pytest.approx(float(expected), **CLOSE)
    truth, scores = table(seed, True)
    found, said, answer = summarise(truth, scores), torch.tensor(softmax(scores, axis=1)), torch.tensor(truth.argmax(1))
    for number, expected in (
        (found.auc, tm.multiclass_auroc(torch.tensor(expit(scores)), answer, 5)),
        (found.average_precision, tm.multiclass_average_precision(torch.tensor(expit(scores)), answer, 5)),
        (
            found.sensitivity,
            np.mean(
                [
                    tm.binary_sensitivity_at_specificity(torch.tensor(expit(scores[:, c])), answer.eq(c), SPECIFICITY)[
                        0
                    ]
                    for c in range(5)
                ]
            ),
        ),
        (found.accuracy, tm.multiclass_accuracy(said, answer, 5, average="micro")),
        (found.class_accuracy, tm.multiclass_accuracy(said, answer, 5, average="macro")),
        (found.calibration_error, tm.multiclass_calibration_error(said, answer, 5, 15)),
    ):
        assert number == pytest.approx(float(expected), **CLOSE)
