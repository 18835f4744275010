"""The prior-only floor: the figures of the design, without images."""

from itertools import combinations
from math import isnan

import pytest

from benchmark.cases.floor import describe_floor, expected_floor, floor_of
from benchmark.options.counts import table14_counts
from benchmark.options.draw import class_counts, draw
from benchmark.paper.rows import paper_floor
from mgll.vocabulary.diseases import benchmark_classes, possible_codes

TABLE14 = [(disease.code,) for disease in benchmark_classes() for _ in range(disease.cases)]


def test_the_papers_own_rows_have_a_floor():
    floor = expected_floor(table14_counts())
    assert (floor.overall, floor.ten_class) == (pytest.approx(0.751, abs=5e-4), pytest.approx(0.331, abs=5e-4))
    assert floor.by_class["Health"] == 1
    assert sum(floor.by_class.values()) == pytest.approx(25 / 4)  # of four classes the most frequent is one of them
    assert floor.macro == floor.rarest_macro == pytest.approx(0.25)  # all sets of four are equally likely
    assert paper_floor(25) == floor
    fifty = paper_floor(50)
    assert (fifty.overall, fifty.ten_class) == (pytest.approx(0.857, abs=5e-4), pytest.approx(0.569, abs=5e-4))
    assert "50 names" in fifty.frequencies_of


@pytest.mark.parametrize("clean", [False, True])
def test_expectation_is_the_mean_over_all_ways_to_draw(clean):
    counts, names = {"DR": 4, "AMD": 4, "Health": 7, "Drusen": 2, "CSR": 1}, ["DR", "ERM", "MNF", "DME"]
    options = [
        (answer, *others)
        for answer, number in counts.items()
        for others in combinations([name for name in {**counts, **dict.fromkeys(names)} if name != answer], 3)
        if not clean or not possible_codes([answer]) & set(others)
        for _ in range(number)
    ]
    expected = expected_floor(counts, names, clean)
    enumerated = floor_of(options, [0] * len(options), counts, "all")
    assert expected.by_class == pytest.approx(enumerated.by_class)
    assert expected.rarest_macro == pytest.approx(enumerated.rarest_macro)
    assert expected.overall == pytest.approx(sum(enumerated.by_class[code] * counts[code] / 18 for code in counts))


@pytest.mark.parametrize("clean", [False, True])
def test_drawn_paper_options_meet_the_expectation(clean):
    questions = [question for seed in range(2) for question in draw(TABLE14, "paper", clean=clean, seed=seed).questions]
    floor = floor_of([q.codes for q in questions], [q.answer for q in questions], class_counts(TABLE14), "Table 14")
    expected = expected_floor(table14_counts(), clean=clean)
    assert floor.overall == pytest.approx(expected.overall, abs=0.015)
    assert floor.ten_class == pytest.approx(expected.ten_class, abs=0.05)


def test_distractors_that_are_never_true_make_the_floor_higher():
    assert expected_floor(table14_counts(), clean=True).overall > expected_floor(table14_counts()).overall + 0.02


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
    with pytest.raises(ValueError, match="three are needed"):
        expected_floor({"DR": 3, "AMD": 2, "Health": 1})
    with pytest.raises(ValueError, match="no class"):
        expected_floor({})


def test_without_any_of_the_ten_classes_there_is_no_average_over_them():
    assert isnan(expected_floor({"Health": 3, "Drusen": 2}, ["DR", "AMD"]).ten_class)
