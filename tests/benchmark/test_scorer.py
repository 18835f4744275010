"""Scorers: the dummies on real cases, and a real (tiny, random) LLaVA through the same interface."""

import math

import pytest
from oracle import Oracle, pixel_hash

from benchmark.cases.images import open_case_image
from benchmark.predictions.batches import Asking
from benchmark.predictions.scoring import score_cases
from benchmark.scorers.scorer import ConstantLetter, dummy
from mgll.vocabulary.questions import LETTERS


def oracle(cases):
    """Told the answers to these cases."""
    return Oracle(
        {(pixel_hash(open_case_image(c)), c.question): c.options[c.answer] for c in cases},
    )


@pytest.mark.slow
def test_an_oracle_is_always_right_and_a_constant_letter_a_quarter_of_the_time(coloured_cases, tmp_path):
    cases = coloured_cases(48)
    told = score_cases(cases, oracle(cases), tmp_path / "oracle")
    assert all(row.correct for row in told.predictions)
    for letter in LETTERS:
        constant = score_cases(cases, ConstantLetter(letter), tmp_path / letter)
        assert sum(row.correct for row in constant.predictions) == 12
        assert {row.chosen for row in constant.predictions} == {LETTERS.index(letter)}
        assert all(math.isclose(sum(map(math.exp, row.log_probs)), 1) for row in constant.predictions)


def test_a_blind_oracle_knows_nothing(coloured_cases, tmp_path):
    cases = coloured_cases(16)
    run = score_cases(cases, oracle(cases), tmp_path, Asking(images="blank"))
    assert run.header["images"] == "blank"
    assert all(len(set(row.log_probs)) == 1 for row in run.predictions)


def test_dummies_by_name():
    assert dummy("constant:B").name == "constant:B"
    assert dummy("some/folder") is None
    assert dummy("constant:A").fingerprint != dummy("constant:B").fingerprint
    with pytest.raises(ValueError, match="one of A, B, C, D"):
        dummy("constant:E")
