"""The prior-only floor: the figures of the design, without images."""

from math import comb

import pytest

from benchmark.floor import describe_floor, floor_of
from benchmark.options import class_counts, draw
from benchmark.significance import TEN_CLASSES
from mgll.vocabulary import benchmark_classes

TABLE14 = [(disease.code,) for disease in benchmark_classes() for _ in range(disease.cases)]


def floor_by_counting(code: str) -> float:
    """Chance that no uniform distractor is more frequent than `code`, ties shared: by combinatorics, without drawing."""
    own = next(disease.cases for disease in benchmark_classes() if disease.code == code)
    others = [disease.cases for disease in benchmark_classes() if disease.code != code]
    rarer, equal = sum(cases < own for cases in others), sum(cases == own for cases in others)
    return sum(comb(equal, k) * comb(rarer, 3 - k) / comb(len(others), 3) / (k + 1) for k in range(4))


def test_paper_options_over_table14_are_answered_by_class_frequency():
    frequency = class_counts(TABLE14)
    questions = [question for seed in range(2) for question in draw(TABLE14, "paper", clean=False, seed=seed).questions]
    floor = floor_of([q.codes for q in questions], [q.answer for q in questions], frequency, "Table 14")

    overall = sum(floor_by_counting(disease.code) * disease.cases for disease in benchmark_classes()) / 2233
    ten = sum(floor_by_counting(code) for code in TEN_CLASSES) / 10
    assert (overall, ten) == (pytest.approx(0.752, abs=0.001), pytest.approx(0.331, abs=0.001))
    assert floor.overall == pytest.approx(overall, abs=0.01)
    assert floor.ten_class == pytest.approx(ten, abs=0.04)
    assert floor.by_class["Health"] == 1


def test_distractors_that_are_never_true_make_the_floor_higher():
    frequency = class_counts(TABLE14)
    clean = draw(TABLE14, "paper").questions
    assert floor_of([q.codes for q in clean], [q.answer for q in clean], frequency, "Table 14").overall > 0.76


def test_balanced_options_leave_chance():
    questions = draw(TABLE14, "balanced", count=2232).questions
    frequencies = class_counts(TABLE14)
    floor = floor_of([q.codes for q in questions], [q.answer for q in questions], frequencies, "Table 14")
    assert floor.overall == 0.25
    assert floor.rarest_macro > 0.4  # the macro average is not protected, and the floor says so
    assert "25.0% overall" in describe_floor(floor)


def test_equal_shares_leave_chance_in_the_macro_average():
    questions = draw(TABLE14, "balanced", count=8000, equal=True).questions
    floor = floor_of([q.codes for q in questions], [q.answer for q in questions], class_counts(TABLE14), "Table 14")
    assert floor.overall == 0.25
    assert floor.macro == pytest.approx(0.25, abs=0.02)
    assert floor.rarest_macro == pytest.approx(0.25, abs=0.02)


def test_ties_count_as_expectation_and_unknown_classes_as_zero():
    options = [("AMD", "DR", "Health", "CSR")] * 2
    assert floor_of(options, [0, 1], {}, "nothing").overall == 0.25
    floor = floor_of(options, [0, 1], {"AMD": 3, "DR": 3}, "two")
    assert floor.overall == 0.5
    assert floor.by_class == {"AMD": 0.5, "DR": 0.5}


def test_no_question_is_an_error():
    with pytest.raises(ValueError, match="no question"):
        floor_of([], [], {}, "nothing")
