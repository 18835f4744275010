"""Options: what is true of an image is no distractor, and looking is needed."""

import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from floor_by_hand import floor_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.tree import DecisionTreeClassifier

from benchmark.options.counts import table14_counts
from benchmark.options.draw import Drawing, draw, member_codes
from benchmark.options.sets import capped_shares, inclusion_of, set_design
from mgll.vocabulary.diseases import benchmark_classes, diseases, possible_codes, true_codes

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


def codes_of(drawing: Drawing) -> np.ndarray:
    """[questions, 4] index of each option's class."""
    codes = list(diseases())
    return np.array([[codes.index(code) for code in question.codes] for question in drawing.questions])


def class_features(drawing: Drawing) -> csr_array:
    """[4 x questions, classes] which class each option is."""
    return indicators(codes_of(drawing)[:, :, None], len(diseases()))


def pair_features(drawing: Drawing) -> csr_array:
    """[4 x questions, classes squared] which class each option is, beside which others."""
    four = codes_of(drawing)
    beside = np.stack([np.delete(four, option, axis=1) for option in range(4)], axis=1)
    return indicators(four[:, :, None] * len(diseases()) + beside, len(diseases()) ** 2)


def indicators(columns: np.ndarray, width: int) -> csr_array:
    """[questions, 4, k] columns -> [4 x questions, width] with ones there."""
    starts = np.arange(0, columns.size + 1, columns.shape[-1])
    return csr_array((np.ones(columns.size), columns.ravel(), starts), shape=(len(starts) - 1, width))


def learned_blind(train: Drawing, test: Drawing, features: Callable[[Drawing], csr_array]) -> float:
    """Accuracy on `test` of weights learned from `train` by logistic regression over the four options (conditional logit)."""
    table, answers = features(train), np.array([question.answer for question in train.questions])
    chosen = np.arange(len(answers)), answers

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        surplus = softmax((table @ weights).reshape(-1, 4), axis=1)
        likelihood = np.log(surplus[chosen]).sum()
        surplus[chosen] -= 1
        return -likelihood + 0.01 * weights @ weights, table.T @ surplus.ravel() + 0.02 * weights

    weights = minimize(loss, np.zeros(table.shape[1]), jac=True, method="L-BFGS-B").x
    picked = (features(test) @ weights).reshape(-1, 4).argmax(axis=1)
    return float((picked == [question.answer for question in test.questions]).mean())


def learned_by_set(train: Drawing, test: Drawing) -> float:
    """Accuracy on `test` of picking what was most often the answer among the same four options in `train`."""
    answers: dict[frozenset[str], Counter[str]] = {}
    for question in train.questions:
        answers.setdefault(frozenset(question.codes), Counter())[question.codes[question.answer]] += 1
    right = 0
    for question in test.questions:
        seen = answers.get(frozenset(question.codes), Counter())
        right += max(question.codes, key=seen.__getitem__) == question.codes[question.answer]
    return right / len(test.questions)


def blind_strategies(train: Drawing, test: Drawing) -> dict[str, float]:
    """Accuracy on `test` of strategies that see the four options only, and know `train`."""
    known = answers_of(train)
    floor = floor_of([q.codes for q in test.questions], [q.answer for q in test.questions], known, "train")
    rare = {code: -number for code, number in known.items()}
    rarest = floor_of([q.codes for q in test.questions], [q.answer for q in test.questions], rare, "train")
    answers = [np.array([question.answer for question in drawing.questions]) for drawing in (train, test)]
    letters = [class_features(drawing).toarray().reshape(len(drawing.questions), -1) for drawing in (train, test)]
    tree = DecisionTreeClassifier(min_samples_leaf=5, random_state=0).fit(letters[0], answers[0])
    return {
        **{f"letter {'ABCD'[letter]}": float((answers[1] == letter).mean()) for letter in range(4)},
        "most frequent": floor.overall,
        "rarest": rarest.overall,
        "by option set": learned_by_set(train, test),
        "weights per class": learned_blind(train, test, class_features),
        "weights per pair": learned_blind(train, test, pair_features),
        "tree over letters and classes": tree.score(letters[1], answers[1]),
    }


@pytest.mark.slow
@pytest.mark.parametrize("labels", [TABLE14, MIXED], ids=["table14", "mixed"])
def test_balanced_no_strategy_without_the_image_beats_chance(labels):
    assert best_blind_in_sample(draw(labels, "balanced", count=2232, seed=3)) == 0.25

    test = draw(labels, "balanced", count=8000, seed=2)
    for strategy, accuracy in blind_strategies(draw(labels, "balanced", count=4000, seed=1), test).items():
        assert binomtest(round(accuracy * 8000), 8000, 0.25).pvalue > 0.001, (strategy, accuracy)


def test_paper_options_are_answered_by_the_same_strategies():
    # The control of the test above: where there is a prior, these learners find it.
    train, test = draw(TABLE14, "paper", clean=False, seed=1), draw(TABLE14, "paper", clean=False, seed=2)
    found = blind_strategies(train, test)
    assert min(found["most frequent"], found["weights per class"], found["weights per pair"]) > 0.7
    assert found["rarest"] < 0.1


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
