"""Exact shares of wrong and missing texts, halves of other granularity; the same seed gives the same, and the rest stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgll.manifest.records import Record
from mgll.training.text_corruption import corrupt_texts

SHARES = st.floats(0, 0.5)


def records(count: int = 300) -> list[Record]:
    """Three levels: one that says the same of all, one with 4 texts of unequal frequency, one with 50 that a third lacks."""
    random = np.random.default_rng(0)
    made = []
    for index in range(count):
        texts = {"modality": ("DX",), "study": (f"study {min(3, int(random.exponential()))}", "radiograph")}
        if index % 3:
            texts["series"] = (f"series {random.integers(50)}",)
        made.append(Record(image=f"{index}.png", split="train", group=f"p{index}", texts=texts, labels=("Health",)))
    return made


def fields(rows) -> dict[tuple[str, str], tuple[str, ...]]:
    return {(row.image, level): texts for row in rows for level, texts in row.texts.items()}


@pytest.mark.slow
@given(SHARES, SHARES, st.integers(0, 3))
def test_shares_are_exact_and_nothing_else_changes(wrong, missing, seed):
    before = fields(records())
    changed = list(corrupt_texts(records(), wrong, missing, seed=seed))
    after = fields(changed)
    exchangeable = sum(level != "modality" for _, level in before)
    assert sum(after[key] != before[key] for key in after) == round(wrong * exchangeable)
    assert len(before) - len(after) == round(missing * len(before))
    assert all(
        after[image, level] in {own for (_, other), own in before.items() if other == level} for image, level in after
    )
    assert [row.model_copy(update={"texts": {}}) for row in changed] == [
        row.model_copy(update={"texts": {}}) for row in records()
    ]
    assert list(corrupt_texts(records(), wrong, missing, seed=seed)) == changed


@pytest.mark.slow
def test_wrong_texts_are_drawn_as_often_as_they_occur():
    rows = [Record(image=str(n), split="train", group="g", texts={"l": ("abcd"[n % 10 // 3],)}) for n in range(30000)]
    after = [row.texts["l"][0] for row in corrupt_texts(rows, wrong=1.0)]
    drawn = [after[n] for n in range(30000) if n % 10 < 3]  # those that said a: 3 b to 3 c to 1 d are left
    assert [drawn.count(text) / len(drawn) for text in "abcd"] == pytest.approx([0, 3 / 7, 3 / 7, 1 / 7], abs=0.02)


def test_another_seed_chooses_others_and_nothing_asked_is_nothing_done():
    rows = records()
    assert corrupt_texts(rows) is rows
    assert list(corrupt_texts(rows, 0.2, seed=1)) != list(corrupt_texts(rows, 0.2, seed=2))


def test_halves_keep_their_levels():
    rows = records()
    after = list(corrupt_texts(rows, granularity={"study": "A", "series": "AB", "modality": "B"}))
    in_a = {row.image for row in after if "study" in row.texts}
    assert len(in_a) == 150
    assert {row.image for row in after if "modality" in row.texts} == {row.image for row in rows} - in_a
    assert sum("series" in row.texts for row in after) == 200
    assert not any("study" in row.texts for row in corrupt_texts(rows, granularity={"study": "none"}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wrong": 0.7, "missing": 0.4}, "add up to 1 at most"),
        ({"missing": -0.1}, "must be in 0..1"),
        ({"granularity": {"organ": "A"}}, "no image has level organ; there are modality, study, series"),
    ],
)
def test_impossible_requests_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        corrupt_texts(records(), **arguments)


def test_records_without_any_text_pass():
    rows = [Record(image="a", split="train", group="g", texts={})]
    assert list(corrupt_texts(rows, wrong=0.5)) == rows
