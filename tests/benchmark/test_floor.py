"""The prior-only floor: the figures of the design, without images."""

from collections import Counter
from itertools import combinations
from math import isnan

import numpy as np
import pytest
from floor_by_hand import floor_of

from benchmark.cases.floor import describe_floors, expected_floor, floors, questions_of
from benchmark.options.counts import table14_counts
from benchmark.options.draw import class_counts, draw
from benchmark.paper.rows import paper_floor
from mgll.vocabulary.diseases import benchmark_classes, diseases, possible_codes

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


@pytest.fixture
def two_sources(coloured_cases):
    """Cases of two sources: in the first DR is always right where offered, in the second never."""
    cases = coloured_cases(48)
    names = ["DR", "AMD", "Glaucoma", "Health"]
    made = []
    for number, case in enumerate(cases):
        source = "first" if number % 2 else "second"
        answer = names.index("DR") if source == "first" else 1 + number // 2 % 3
        options = tuple(diseases()[code].name for code in names)
        made.append(
            case.model_copy(
                update={
                    "source": source,
                    "options": options,
                    "option_codes": tuple(names),
                    "answer": answer,
                    "code": names[answer],
                    "labels": (),
                }
            )
        )
    return made


def test_the_source_alone_answers_where_classes_keep_to_sources(two_sources):
    questions, found = questions_of(two_sources), floors(two_sources)
    scores = found.of(questions.overall())
    assert scores["source"] == pytest.approx(0.5 + 0.5 / 3)  # in the second source three classes tie
    assert scores["frequency"] == pytest.approx(0.5)
    assert scores["rarest"] < 0.25
    assert found.of(questions.accuracy("DR")) == {"frequency": 1, "source": 1, "rarest": 0}


def test_floors_know_what_training_questions_teach(two_sources):
    learned = [case.model_copy(update={"code": "AMD", "answer": 1}) for case in two_sources]
    found = floors(two_sources, learned)
    assert found.learned_from == "the training questions"
    assert found.of(questions_of(two_sources).accuracy("AMD"))["source"] == 1
    unmet = [case.model_copy(update={"source": "third"}) for case in two_sources]
    assert floors(unmet, learned).of(questions_of(unmet).accuracy("AMD"))["source"] == 1


def test_floors_are_described_rule_by_rule(two_sources):
    text = describe_floors(two_sources)
    assert text.count("without looking") == 3
    assert "source only (of these questions' own answers): 66.7% overall" in text


def test_options_within_a_source_leave_nothing_to_the_source():
    # Each source has its own classes, and one class is everywhere: over all sources at once the source tells the answer.
    own = {"a": ["DR", "AMD", "Glaucoma", "Cataract"], "b": ["MH", "ERM", "Myopia", "Drusen"], "c": ["Health"]}
    labels = [(code,) for codes in own.values() for code in codes for _ in range(12)]
    sources = [source for source, codes in own.items() for _ in codes for _ in range(12)]

    def source_rule(drawing):
        asked = [(sources[question.image], question) for question in drawing.questions]
        right = Counter((source, question.codes[question.answer]) for source, question in asked)
        return np.mean(
            [
                max(question.codes, key=lambda code: right[source, code]) == question.codes[question.answer]
                for source, question in asked
            ]
        )

    within = draw(labels, "balanced", sources=sources, count=400)
    assert within.sources == {"a": 200, "b": 200}
    assert within.sources_left_out.keys() == {"c"}
    assert "source left out: c" in within.describe()
    assert all(set(question.codes) <= set(own[sources[question.image]]) for question in within.questions)
    assert source_rule(within) == 0.25
    assert source_rule(draw(labels, "balanced", sources=sources, count=400, any_source=True)) > 0.35
