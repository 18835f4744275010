"""The exact floor against the design's figures, brute force and drawn questions."""

from itertools import combinations

import numpy as np
import pytest

from benchmark.expected_floor import expected_floor
from benchmark.floor import floor_of
from mgll.vocabulary import benchmark_classes

TABLE14 = {disease.code: disease.cases for disease in benchmark_classes()}


def test_table14_with_25_names_is_the_designs_floor():
    floor = expected_floor(TABLE14, 25)
    assert floor.overall == pytest.approx(0.752, abs=0.001)
    assert floor.ten_class == pytest.approx(0.331, abs=0.001)
    assert floor.macro == pytest.approx(0.25)  # of any four classes one wins, and all sets of four are equally likely
    assert floor.rarest_macro == pytest.approx(0.25)


def test_names_that_are_never_true_give_the_answer_away():
    floor = expected_floor(TABLE14, 50)
    assert (floor.overall, floor.ten_class) == (pytest.approx(0.858, abs=0.002), pytest.approx(0.564, abs=0.006))
    assert "50 names" in floor.frequencies_of


@pytest.mark.parametrize("names", [25, 40])
def test_drawn_questions_score_what_is_expected(names):
    random, codes = np.random.default_rng(0), list(TABLE14)
    everything = codes + [f"never {k}" for k in range(names - 25)]
    options = []
    for code in np.repeat(codes, list(TABLE14.values())).tolist() * 4:
        others = [name for name in everything if name != code]
        options.append((code, *(others[k] for k in random.choice(len(others), 3, replace=False))))
    drawn = floor_of(options, [0] * len(options), TABLE14, "drawn")
    expected = expected_floor(TABLE14, names)
    assert drawn.overall == pytest.approx(expected.overall, abs=0.01)
    assert drawn.ten_class == pytest.approx(expected.ten_class, abs=0.03)
    assert drawn.rarest_macro == pytest.approx(expected.rarest_macro, abs=0.05)


def test_every_set_of_distractors_once():
    counts = {"AMD": 9, "DR": 5, "Health": 5, "CSR": 5, "CN": 1}
    for names in (5, 7):
        everything = [*counts, *("n1", "n2")[: names - 5]]
        floor = expected_floor(counts, names)
        for code in counts:
            options = [(code, *three) for three in combinations([name for name in everything if name != code], 3)]
            by_hand = floor_of(options, [0] * len(options), counts, "all")
            assert floor.by_class[code] == pytest.approx(by_hand.overall)
    assert np.isnan(expected_floor({"Health": 3, "Drusen": 2}, 4).ten_class)


def test_too_few_names_are_refused():
    for counts, names in (({"AMD": 1}, 3), (TABLE14, 24), ({}, 25)):
        with pytest.raises(ValueError, match="names"):
            expected_floor(counts, names)
