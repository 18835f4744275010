"""Options: what is true of an image is no distractor, and looking is needed."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import binomtest
from sklearn.tree import DecisionTreeClassifier

from benchmark.class_counts import table14_counts
from benchmark.option_sets import capped_shares, inclusion_of, set_design
from benchmark.options import Drawing, draw, member_codes
from mgll.vocabulary import benchmark_classes, diseases, possible_codes, true_codes

TABLE14 = [(disease.code,) for disease in benchmark_classes() for _ in range(disease.cases)]
# Several findings on one eye, as in real photographs: BRVO is never seen without DR, DME seldom.
MIXED = (
    [("DR",)] * 60
    + [("Moderate NPDR", "DME")] * 20
    + [("DME",)] * 6
    + [("DR", "BRVO")] * 12
    + [("Health",)] * 70
    + [("AMD", "Drusen")] * 10
    + [("Drusen",)] * 9
    + [("Wet AMD",)] * 15
    + [("Glaucoma", "Cataract")] * 8
    + [("Cataract",)] * 25
    + [("Glaucoma",)] * 20
    + [("ERM",)] * 7
    + [("CSR",)] * 3
)


def best_blind_in_sample(drawing: Drawing) -> float:
    """Accuracy of the strategy that picks, for each option set, the class that is its answer most often in these very questions."""
    answers: dict[frozenset[str], Counter[str]] = {}
    for question in drawing.questions:
        answers.setdefault(frozenset(question.codes), Counter())[question.codes[question.answer]] += 1
    return sum(max(counter.values()) for counter in answers.values()) / len(drawing.questions)


def answers_of(drawing: Drawing) -> Counter[str]:
    return Counter(question.codes[question.answer] for question in drawing.questions)


def features(drawing: Drawing) -> tuple[np.ndarray, np.ndarray]:
    """[questions, 4 x classes] which class stands at which letter; [questions] letter of the answer."""
    codes = list(diseases())
    table = np.zeros((len(drawing.questions), 4, len(codes)))
    for row, question in zip(table, drawing.questions, strict=True):
        row[range(4), [codes.index(code) for code in question.codes]] = 1
    return table.reshape(len(table), -1), np.array([question.answer for question in drawing.questions])


def learned_blind(train: Drawing, test: Drawing) -> float:
    """Accuracy on `test` of class weights learned from `train` by logistic regression over the four options (conditional logit)."""
    one_hot, answers = features(train)
    four = one_hot.reshape(len(one_hot), 4, -1)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = four @ weights
        scores -= scores.max(axis=1, keepdims=True)
        probability = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        chosen = probability[np.arange(len(answers)), answers]
        surplus = probability.copy()
        surplus[np.arange(len(answers)), answers] -= 1
        gradient = np.einsum("nk,nkc->c", surplus, four)
        return -np.log(chosen).sum() + 0.01 * weights @ weights, gradient + 0.02 * weights

    weights = minimize(loss, np.zeros(four.shape[2]), jac=True, method="L-BFGS-B").x
    held_out, truth = features(test)
    picked = (held_out.reshape(len(held_out), 4, -1) @ weights).argmax(axis=1)
    return float((picked == truth).mean())


@pytest.mark.parametrize("labels", [TABLE14, MIXED], ids=["table14", "mixed"])
def test_balanced_no_strategy_without_the_image_beats_chance(labels):
    assert best_blind_in_sample(draw(labels, "balanced", count=2232, seed=3)) == 0.25

    train, test = draw(labels, "balanced", count=4000, seed=1), draw(labels, "balanced", count=8000, seed=2)
    assert learned_blind(train, test) == 0.25  # weights per class: each is the answer once in every drawn set
    # A tree may also use letters and whole sets; its score on fresh questions is a draw around 25 %.
    tree = DecisionTreeClassifier(min_samples_leaf=5, random_state=0).fit(*features(train))
    correct = round(tree.score(*features(test)) * 8000)
    assert binomtest(correct, 8000, 0.25).pvalue > 0.001


def test_paper_options_are_answered_by_the_same_blind_learner():
    # The control of the test above: where there is a prior, this learner finds it.
    train, test = draw(TABLE14, "paper", clean=False, seed=1), draw(TABLE14, "paper", clean=False, seed=2)
    assert learned_blind(train, test) > 0.7


def test_balanced_equal_protects_the_macro_average_too():
    drawing = draw(TABLE14, "balanced", count=4000, equal=True, min_images=1)
    counts = answers_of(drawing)
    mean = 4000 / len(counts)
    assert set(drawing.shares) == set(counts)
    assert all(abs(count - mean) < 4 * mean**0.5 for count in counts.values())


@pytest.mark.parametrize("kind", ["balanced", "paper"])
@pytest.mark.parametrize("labels", [TABLE14, MIXED], ids=["table14", "mixed"])
def test_answer_is_true_and_distractors_are_not(kind, labels):
    drawing = draw(labels, kind, count=500, seed=5)
    assert len(drawing.questions) == 500
    for question in drawing.questions:
        held, answer = true_codes(labels[question.image]), question.codes[question.answer]
        assert answer in held
        assert len(set(question.codes)) == 4
        assert not held & (set(question.codes) - {answer})
    assert set(Counter(question.answer for question in drawing.questions).values()) == {125}


@pytest.mark.parametrize("kind", ["balanced", "paper"])
def test_drawing_is_seeded(kind):
    assert draw(MIXED, kind, seed=1) == draw(MIXED, kind, seed=1)
    assert draw(MIXED, kind, seed=1).questions != draw(MIXED, kind, seed=2).questions


def test_positions_are_even_up_to_rounding():
    for kind in ("balanced", "paper"):
        positions = Counter(question.answer for question in draw(MIXED, kind, count=203).questions)
        assert max(positions.values()) - min(positions.values()) <= 1


def test_images_are_used_evenly():
    drawing = draw(TABLE14, "balanced", count=4000, min_images=1)
    by_class: dict[str, Counter[int]] = {}
    for question in drawing.questions:
        by_class.setdefault(question.codes[question.answer], Counter())[question.image] += 1
    for uses in by_class.values():
        assert max(uses.values()) - min(uses.values()) <= 1


def test_balanced_answers_follow_capped_shares():
    drawing = draw(TABLE14, "balanced", count=8000)
    counts = answers_of(drawing)
    assert drawing.shares["Health"] == pytest.approx(0.25)
    for code, share in drawing.shares.items():
        assert counts[code] / 8000 == pytest.approx(share, abs=0.005)


def test_left_out_classes_are_named_with_the_reason():
    drawing = draw(TABLE14, "balanced", count=40)
    assert drawing.left_out["AR"] == "2 images, fewer than 5"
    # Every image without AMD is also one of No AMD, so the two can't be told apart by a single true option.
    assert "no option set" in drawing.left_out["No AMD"]
    assert set(drawing.left_out) | set(drawing.shares) == {disease.code for disease in benchmark_classes()}


def test_an_option_set_needs_enough_images_for_each_of_its_classes():
    labels = MIXED
    drawing = draw(labels, "balanced", count=400, min_images=6)
    for options in {question.codes for question in drawing.questions}:
        for answer in options:
            eligible = [
                image
                for image in labels
                if answer in member_codes(image) and not possible_codes(image) & (set(options) - {answer})
            ]
            assert len(eligible) >= 6


def test_a_class_that_never_stands_alone_gives_nothing_away():
    labels = (
        [("BRVO", "DR")] * 30
        + [("DR",)] * 30
        + [(code,) for code in ("Health", "AMD", "CSR", "Myopia") for _ in range(30)]
    )
    drawing = draw(labels, "balanced", count=400)
    together = [question for question in drawing.questions if {"BRVO", "DR"} <= set(question.codes)]
    assert not together  # DR would always be the answer there
    assert any("BRVO" in question.codes for question in drawing.questions)
    assert best_blind_in_sample(drawing) == 0.25


def test_grades_fold_and_negatives_are_only_what_was_labelled():
    assert member_codes(["Moderate NPDR"]) == {"DR"}
    assert member_codes(["Wet AMD"]) == {"AMD", "CN"}
    assert member_codes(["Health"]) == {"Health"}
    assert member_codes(["No AMD"]) == {"No AMD"}


def test_paper_as_printed_counts_ambiguous_questions():
    drawing = draw(TABLE14, "paper", clean=False)
    ambiguous = sum(
        bool(possible_codes(TABLE14[q.image]) & (set(q.codes) - {q.codes[q.answer]})) for q in drawing.questions
    )
    assert drawing.ambiguous == ambiguous > 0
    assert draw(TABLE14, "paper").ambiguous == 0


def test_paper_options_follow_the_images_with_every_class_at_least_once():
    assert answers_of(draw(TABLE14, "paper")) == {disease.code: disease.cases for disease in benchmark_classes()}
    small = answers_of(draw(TABLE14, "paper", count=300))
    assert small == table14_counts(300)
    assert min(small.values()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["DR", "AMD", "Health"]}, "four classes are needed, 3 remain"),
        ({"classes": ["DR", "AMD", "Health", "Dragon"]}, "no such class: Dragon"),
        ({"count": 0}, "at least one"),
        ({"min_images": 1000}, "fewer than 1000"),
        ({"classes": ["DR", "BRVO", "AMD", "Drusen"]}, "no option set"),
    ],
)
def test_impossible_wishes_say_why(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(MIXED, "balanced", **arguments)


def test_capped_shares():
    shares = capped_shares([890, 500, 171, 120, 110, 12])
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == shares[1] == 0.25
    assert shares[2] / shares[3] == pytest.approx(171 / 120)
    assert capped_shares([5, 4, 3, 1000]) == pytest.approx([0.25] * 4)


def test_design_meets_inclusion_probabilities_at_maximum_entropy():
    from itertools import combinations

    wanted = np.array([1.0, 0.9, 0.8, 0.5, 0.5, 0.2, 0.1])
    sets = np.array(list(combinations(range(7), 4)))
    probability = set_design(sets, wanted)
    assert probability.sum() == pytest.approx(1)
    assert inclusion_of(sets, probability, 7) == pytest.approx(wanted, abs=1e-3)
    # Any other design with the same inclusion probabilities has less entropy: move along the null space and look.
    indicator = np.zeros((7, len(sets)))
    indicator[sets.T, np.arange(len(sets))] = 1
    inside = probability > 1e-4
    null = np.linalg.svd(indicator[:, inside])[2][7:]

    def entropy(p: np.ndarray) -> float:
        return float(-(p * np.log(p)).sum())

    for direction in null:
        for step in (0.3, -0.3):
            moved = probability[inside] + step * probability[inside].min() * direction
            assert entropy(moved) < entropy(probability[inside]) + 1e-7


CODES = [
    "Health",
    "Other",
    "Myopia",
    "DR",
    "Drusen",
    "MH",
    "DME",
    "Glaucoma",
    "ODC",
    "Moderate NPDR",
    "Wet AMD",
    "ERM",
    "No AMD",
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(CODES), max_size=3, unique=True), min_size=1, max_size=60),
    st.sampled_from(["balanced", "paper"]),
    st.integers(1, 40),
    st.integers(1, 3),
)
def test_any_labels_give_sound_questions_or_a_reason(labels, kind, count, minimum):
    try:
        drawing = draw(labels, kind, count, classes="present", min_images=minimum)
    except ValueError as error:
        if not re.search("four classes are needed|no option set|possible distractors", str(error)):
            raise
        return
    assert len(drawing.questions) == count
    for question in drawing.questions:
        answer = question.codes[question.answer]
        assert answer in member_codes(labels[question.image])
        assert not possible_codes(labels[question.image]) & (set(question.codes) - {answer})
