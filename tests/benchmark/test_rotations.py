"""Rotations: a model that sees is right in every view, one that likes a letter is right in none."""

from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest

from benchmark.stats.rotations import (
    PERMUTATIONS,
    all_correct,
    as_asked,
    as_stored,
    average,
    consistency,
    expected_correct,
    letter_preference,
    rotations,
)

ANSWERS = np.arange(100) % 4  # balanced positions
COUNTS = (1, 4, 24)


def run(by_letter, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and choices in stored order of a model given as: answer's letter -> probabilities of the four letters."""
    probabilities = np.empty((len(ANSWERS), count, 4))
    for case, answer in enumerate(ANSWERS):
        for rotation in range(count):
            letter = PERMUTATIONS[rotation].index(answer)
            probabilities[case, rotation] = as_stored(by_letter(letter), rotation)
    return probabilities, probabilities.argmax(axis=2)


def answers_over_rotations(probabilities, chosen, answers):
    """Every view of a run, put together as the reports put them together."""
    mean = average(probabilities)
    return SimpleNamespace(
        rotations=chosen.shape[1],
        stored=(chosen[:, 0] == answers).astype(float),
        averaged=expected_correct(mean, answers),
        all_correct=all_correct(chosen, answers),
        probabilities=mean,
        consistency=consistency(chosen),
        letters=letter_preference(chosen),
    )


def oracle(letter):
    return [0.85 if k == letter else 0.05 for k in range(4)]


def says_c(letter):
    return [0.11, 0.13, 0.7, 0.06]


def test_the_orders_are_all_24_with_the_cyclic_ones_first():
    assert len(set(PERMUTATIONS)) == 24
    assert set(PERMUTATIONS) == set(permutations(range(4)))
    assert PERMUTATIONS[0] == (0, 1, 2, 3)
    assert list(PERMUTATIONS[4:]) == sorted(PERMUTATIONS[4:])
    assert rotations(1) == ((0, 1, 2, 3),)
    with pytest.raises(ValueError, match="1, 4 or 24"):
        rotations(6)


@pytest.mark.parametrize("count", [4, 24])
def test_every_option_takes_every_letter_equally_often(count):
    orders = np.array(rotations(count))
    for letter in range(4):
        assert np.bincount(orders[:, letter]).tolist() == [count // 4] * 4


@pytest.mark.parametrize("rotation", range(24))
def test_there_and_back(rotation):
    options = ("AMD", "DR", "Health", "CSR")
    asked = as_asked(options, rotation)
    assert asked[0] == options[PERMUTATIONS[rotation][0]]
    assert as_stored(asked, rotation) == options


@pytest.mark.parametrize("count", COUNTS)
def test_the_oracle_is_right_in_every_view(count):
    result = answers_over_rotations(*run(oracle, count), ANSWERS)
    assert result.rotations == count
    assert result.stored.mean() == result.averaged.mean() == result.all_correct.mean() == result.consistency == 1
    assert result.probabilities[np.arange(100), ANSWERS] == pytest.approx(0.85)
    assert result.letters.counts == (25 * count,) * 4
    assert (result.letters.entropy, result.letters.chi_square, result.letters.p) == pytest.approx((2, 0, 1))


@pytest.mark.parametrize("count", [4, 24])
def test_a_constant_letter_is_chance_once_averaged_and_never_all_correct(count):
    result = answers_over_rotations(*run(says_c, count), ANSWERS)
    assert result.stored.mean() == 0.25
    assert result.averaged.tolist() == [0.25] * 100  # a four-way tie in every case, wherever the answer stands
    assert result.all_correct.sum() == result.consistency == 0
    assert result.probabilities == pytest.approx(np.full((100, 4), 0.25))
    assert result.letters.counts == (0, 0, 100 * count, 0)
    assert result.letters.entropy == 0
    assert result.letters.p < 1e-50


def test_averaging_takes_out_a_liking_that_hides_what_the_model_sees():
    def sees_but_likes_a(letter):
        weights = np.array([3.0, 1, 1, 1])
        weights[letter] *= 2
        return (weights / weights.sum()).tolist()

    result = answers_over_rotations(*run(sees_but_likes_a, 4), ANSWERS)
    assert result.stored.mean() == 0.25  # only where the answer stands at A
    assert result.averaged.mean() == 1
    assert result.all_correct.mean() == 0


def test_the_average_is_arithmetic_and_in_option_space():
    one = np.array([[[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.4, 0.4, 0.1, 0.1], [0.3, 0.2, 0.25, 0.25]]])
    assert average(one) == pytest.approx(np.array([[0.375, 0.35, 0.1375, 0.1375]]))
    with pytest.raises(ValueError, match=r"found shape \(1, 3, 4\)"):
        average(one[:, :3])


def test_ties_count_as_their_expectation_and_silence_as_wrong():
    probabilities = [[0.4, 0.4, 0.1, 0.1], [0.4, 0.4, 0.1, 0.1], [0.25] * 4, [0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4]]
    assert expected_correct(probabilities, [1, 2, 3, 0, 3]).tolist() == [0.5, 0, 0.25, 0, 1]


def test_all_correct_and_consistency_by_hand():
    chosen = [[2, 2, 2, 2], [1, 1, 1, 1], [0, 0, 0, 3], [-1, -1, -1, -1], [3, 3, -1, 3]]
    assert all_correct(chosen, [2, 0, 0, 1, 3]).tolist() == [1, 0, 0, 0, 0]
    assert consistency(chosen) == 2 / 5


def test_letters_are_counted_where_the_option_stood():
    # Option 0 stands at A, D, C and B in the four cyclic orders.
    preference = letter_preference([[0, 0, 0, 0], [0, -1, -1, 0]])
    assert preference.counts == (2, 2, 1, 1)
    assert preference.none == 2
    assert preference.chi_square == pytest.approx((2 * 0.5**2 + 2 * 0.5**2) / 1.5)
    assert preference.entropy == pytest.approx(2 * (1 / 3 * np.log2(3)) + 2 * (1 / 6 * np.log2(6)))
    silent = letter_preference([[-1]])
    assert silent.counts == (0, 0, 0, 0)
    assert np.isnan(silent.p)


def test_one_guess_in_four_is_all_correct_in_one_of_256():
    random = np.random.default_rng(0)
    chosen, answers = random.integers(0, 4, (200_000, 4)), random.integers(0, 4, 200_000)
    assert all_correct(chosen, answers).mean() == pytest.approx(1 / 256, abs=5e-4)


def test_arrays_of_another_form_are_refused():
    with pytest.raises(ValueError, match="numbered 0 to 3"):
        letter_preference([[4]])
    with pytest.raises(ValueError, match="rotations"):
        consistency([0, 1])
