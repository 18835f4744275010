"""Agreement counts every case, and kappa is what a hand calculation gives."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.stats.agreement import agreement

choices = st.one_of(st.none(), st.integers(0, 3))


def test_share_kappa_and_unparsed_by_hand():
    first = [0, 0, 1, 1, 2, 3, None, None]
    second = [0, 1, 1, 1, 2, None, None, 3]
    found = agreement(first, second)
    assert (found.n, found.compared, found.unparsed) == (8, 5, (2, 2))
    assert found.equal == pytest.approx(4 / 8)
    by_chance = (2 * 1 + 2 * 3 + 1 * 1) / 25
    assert found.kappa == pytest.approx((4 / 5 - by_chance) / (1 - by_chance))


def test_two_views_without_an_answer_do_not_agree():
    found = agreement([None, None], [None, None])
    assert (found.equal, found.compared, found.unparsed) == (0.0, 0, (2, 2))
    assert math.isnan(found.kappa)


def test_kappa_is_undefined_where_only_one_option_is_ever_chosen():
    found = agreement([2, 2, 2], [2, 2, 2])
    assert found.equal == 1
    assert math.isnan(found.kappa)


def test_a_constant_view_agrees_no_better_than_chance():
    assert agreement([0, 0, 0, 0], [0, 1, 2, 3]).kappa == pytest.approx(0)


@given(st.lists(st.tuples(choices, choices), min_size=1, max_size=30), st.permutations(range(4)))
def test_order_of_views_and_names_of_options_do_not_matter(pairs, names):
    first, second = ([pair[view] for pair in pairs] for view in (0, 1))
    found = agreement(first, second)
    swapped = agreement(second, first)
    renamed = agreement(*([None if choice is None else names[choice] for choice in view] for view in (first, second)))
    assert renamed.equal == found.equal == swapped.equal
    assert swapped.unparsed == found.unparsed[::-1]
    for other in (swapped, renamed):
        assert other.kappa == pytest.approx(found.kappa, nan_ok=True)
    assert 0 <= found.equal <= found.compared / found.n


@pytest.mark.parametrize(("first", "second"), [([], []), ([0], [0, 1])])
def test_views_of_other_lengths_are_an_error(first, second):
    with pytest.raises(ValueError, match="two views of the same cases"):
        agreement(first, second)


def test_a_choice_beyond_the_four_is_an_error():
    with pytest.raises(ValueError, match=r"0 to 3 or None, found \[4\]"):
        agreement([4], [0])
