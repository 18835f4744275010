"""Table 14's counts: exactly, in proportion, or class by class what is short."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.options.counts import ShortageError, assign_images, in_proportion, table14_counts
from benchmark.options.draw import draw, member_codes
from mgll.vocabulary.diseases import benchmark_classes

TABLE14 = {disease.code: disease.cases for disease in benchmark_classes()}
# More images than needed, some of them of two classes, the scarce classes only beside others.
PLENTY = [
    *((code,) for code, cases in TABLE14.items() if cases > 4 for _ in range(cases)),
    *(("Moderate NPDR", code) for code, cases in TABLE14.items() if cases <= 4 for _ in range(cases)),
    *[("DR", "ERM")] * 40,
    *[("Wet AMD",)] * 4,
    *[("Health",)] * 300,
]


def answers_of(labels, **design) -> Counter[str]:
    return Counter(q.codes[q.answer] for q in draw(labels, "paper", table14=True, **design).questions)


def test_the_counts_of_table_14_hold_exactly():
    for seed in range(3):
        drawing = draw(PLENTY, "paper", table14=True, seed=seed)
        assert Counter(q.codes[q.answer] for q in drawing.questions) == TABLE14
        assert len({q.image for q in drawing.questions}) == 2233  # one case an image
        assert all(q.codes[q.answer] in member_codes(PLENTY[q.image]) for q in drawing.questions)
        assert not drawing.short
    assert (
        draw(PLENTY, "paper", table14=True, seed=1).questions != draw(PLENTY, "paper", table14=True, seed=2).questions
    )


def test_a_smaller_set_keeps_the_proportions():
    counts = answers_of(PLENTY, count=500)
    assert counts == table14_counts(500)
    assert sum(counts.values()) == 500
    assert min(counts.values()) == 1
    for code, cases in TABLE14.items():
        assert abs(counts[code] - 500 * cases / 2233) < 2


def test_what_is_short_is_said_class_by_class():
    labels = [labels for labels in PLENTY if not {"AR", "CSR"} & set(labels)] + [("CSR",)] * 3
    with pytest.raises(
        ShortageError, match=re.escape("6 images are missing for 2 classes: CSR: have 3, need 7; AR: have 0")
    ):
        draw(labels, "paper", table14=True)
    drawing = draw(labels, "paper", table14=True, allow_short=True)
    assert len(drawing.questions) == 2227
    assert drawing.short == {"CSR": (3, 7), "AR": (0, 2)}
    assert "short: CSR: 3 of 7" in drawing.describe()


def test_an_image_of_two_classes_goes_where_it_is_needed():
    member = np.array([[True, True], [True, False], [True, True]])
    for seed in range(20):
        first, second = assign_images(member, [1, 2], np.random.default_rng(seed))
        assert list(first) == [1]
        assert sorted(second) == [0, 2]


def test_which_images_are_taken_is_drawn():
    member = np.ones((50, 1), dtype=bool)
    taken = Counter(
        image for seed in range(400) for image in assign_images(member, [5], np.random.default_rng(seed))[0].tolist()
    )
    assert len(taken) == 50
    assert max(taken.values()) < 80  # 40 expected, standard deviation 6


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda classes: st.tuples(
            st.lists(st.lists(st.booleans(), min_size=classes, max_size=classes), min_size=1, max_size=12),
            st.lists(st.integers(0, 4), min_size=classes, max_size=classes),
        )
    )
)
def test_assignments_are_as_large_as_they_can_be(drawn):
    member, need = np.array(drawn[0]), drawn[1]
    found = assign_images(member, need, np.random.default_rng(0))
    used = [image for images in found for image in images.tolist()]
    assert len(used) == len(set(used))
    for column, images, number in zip(member.T, found, need, strict=True):
        assert column[images].all()
        assert len(images) <= number
    # Hall's bound over all subsets of classes: what can be had in all.
    subsets = np.array(np.meshgrid(*[[False, True]] * len(need))).reshape(len(need), -1).T
    bound = min(
        member[:, subset].any(axis=1).sum() + sum(n for n, inside in zip(need, subset, strict=True) if not inside)
        for subset in subsets
    )
    assert len(used) == bound


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.integers(0, 900), min_size=1, max_size=12), st.integers(1, 2000))
def test_largest_remainders_sum_up_and_leave_no_class_empty(sizes, count):
    if not any(sizes.values()):
        return
    numbers = in_proportion(sizes, count)
    present = [code for code, size in sizes.items() if size]
    assert sum(numbers.values()) == count
    assert all(numbers[code] == 0 for code in sizes if code not in present)
    if count >= len(present):
        assert all(numbers[code] >= 1 for code in present)
        order = sorted(present, key=lambda code: sizes[code])
        assert all(numbers[a] <= numbers[b] + 1 for a, b in pairwise(order))


def test_a_count_above_the_table_is_refused():
    with pytest.raises(ValueError, match="2,233"):
        table14_counts(2234)
    assert table14_counts(2233) == table14_counts() == TABLE14


@pytest.mark.parametrize(
    ("design", "message"),
    [
        ({"kind": "balanced"}, "need paper options"),
        ({"kind": "paper", "classes": ["DR", "AMD", "Health", "Glaucoma"]}, "all of its 25 classes"),
        ({"kind": "paper", "min_images": 5}, "all of its 25 classes"),
    ],
)
def test_what_cannot_go_with_table_14_is_refused(design, message):
    with pytest.raises(ValueError, match=message):
        draw(PLENTY, table14=True, **design)
