"""Orders and views of one run, against answers that can be read off by hand."""

import numpy as np
import pytest
from answered import row, run_of

from benchmark.predictions.answers import NONE, Reading, answers_of
from benchmark.predictions.file import Prediction

# True option 0. Asked in four orders, this model gives option 0 and the letter A weight: option 0 stands at A, D, C, B in turn.
LIKES_A = ([6, 1, 1, 2], [4, 5, 1, 1], [4, 1, 5, 1], [4, 1, 1, 5])


def test_averaging_takes_out_a_liking_for_a_letter():
    answers = answers_of(run_of([row("a", rotation, weights) for rotation, weights in enumerate(LIKES_A)]))
    assert answers.primary == Reading("letter", "averaged")
    assert answers.picked_in_each_order("letter").tolist() == [[0, 1, 2, 3]]
    expected = np.mean([np.array(weights) / np.sum(weights) for weights in LIKES_A], axis=0)
    assert answers.table(answers.primary)[0] == pytest.approx(expected)
    assert answers.picked(answers.primary).tolist() == [0]
    correct = {reading.way: answers.correct(reading).tolist() for reading in answers.readings}
    assert correct == {"stored": [1], "averaged": [1], "all": [0]}
    assert answers.letters("letter").counts == (4, 0, 0, 0)
    assert answers.true_letters() == (1, 1, 1, 1)


def test_a_constant_letter_ties_once_averaged_and_counts_its_expectation():
    at_a = [0, 1, 2, 3]  # which stored option stands at A in each order
    rows = [
        row(f"c{answer}", rotation, [0.97 if k == at_a[rotation] else 0.01 for k in range(4)], answer=answer)
        for answer in range(4)
        for rotation in range(4)
    ]
    answers = answers_of(run_of(rows))
    assert answers.picked(answers.primary).tolist() == [NONE] * 4
    assert answers.correct(answers.primary).tolist() == [0.25] * 4
    assert answers.right(answers.primary).tolist() == [0] * 4
    assert answers.correct(Reading("letter", "stored")).mean() == 0.25
    assert answers.correct(Reading("letter", "all")).sum() == 0
    assert (answers.ties(answers.primary), answers.ties(Reading("letter", "stored"))) == (4, 0)


def test_a_tie_in_the_stored_order_counts_its_expectation_wherever_the_true_option_stands():
    rows = [row(f"two-{answer}", letters=[4, 1, 4, 1], answer=answer) for answer in range(4)]
    rows += [row(f"four-{answer}", letters=[1, 1, 1, 1], answer=answer) for answer in range(4)]
    rows += [row("clear", letters=[4, 1, 4.001, 1], answer=2)]
    answers = answers_of(run_of(rows))
    assert answers.primary == Reading("letter", "stored")
    assert answers.correct(answers.primary).tolist() == [0.5, 0, 0.5, 0, *[0.25] * 4, 1]
    assert answers.right(answers.primary).tolist() == [0] * 8 + [1]
    assert answers.picked(answers.primary).tolist() == [NONE] * 8 + [2]
    assert answers.ties(answers.primary) == 8
    assert answers.letters("letter").none == 8
    assert [row.chosen for row in rows] == [None] * 8 + [2]


def test_likelihoods_of_options_may_tie_too():
    answers = answers_of(run_of([row("a", 0, [5, 1, 1, 1], options=[1, 7, 7, 1])], views=["letter", "option"]))
    assert answers.picked(Reading("option", "stored")).tolist() == [NONE]
    assert answers.correct(Reading("option", "stored")).tolist() == [0]


def test_words_are_votes_and_silence_is_wrong():
    said = {"most": [0, 0, 0, 1], "split": [0, 0, 1, 1], "silent": [None] * 4, "half": [0, 0, None, None]}
    rows = [row(case, r, said=option) for case, options in said.items() for r, option in enumerate(options)]
    answers = answers_of(run_of(rows, views=["text"]))
    assert answers.primary == Reading("text", "averaged")
    assert answers.picked(answers.primary).tolist() == [0, NONE, NONE, 0]
    assert answers.correct(answers.primary).tolist() == [1, 0.5, 0, 1]
    assert answers.correct(Reading("text", "all")).tolist() == [0, 0, 0, 0]
    assert answers.letters("text").none == 6


def test_views_that_a_run_has():
    with_all = run_of([row("a", 0, [5, 1, 1, 1], said=1, options=[1, 1, 7, 1])], views=["letter", "text", "option"])
    answers = answers_of(with_all)
    assert [reading.view for reading in answers.readings] == ["letter", "text", "option"]
    assert [int(answers.picked(reading)[0]) for reading in answers.readings] == [0, 1, 2]
    assert answers.scores["option"].sum() == pytest.approx(1)
    assert list(answers_of(run_of([row("a", 0, [5, 1, 1, 1])])).scores) == ["letter"]


def test_rows_may_come_in_any_order_and_be_asked_for_in_another():
    rows = [row(case, rotation, [1, 1, 1, 1 + rotation], answer=3) for case in "ab" for rotation in (3, 0, 2, 1)]
    answers = answers_of(run_of(rows), ["b", "a"])
    assert answers.cases == ("b", "a")
    assert answers.table(Reading("letter", "stored"))[0] == pytest.approx([0.25] * 4)
    assert answers.scores["letter"][0, 3, 3] == pytest.approx(4 / 7)


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="case 'a' lacks rotation 1, 2"):
        answers_of(run_of([row("a", 0, [1] * 4), row("a", 3, [1] * 4)]))
    with pytest.raises(ValueError, match="1 of 2 rows have no log_probs"):
        answers_of(run_of([row("a", 0, [1] * 4), row("b", 0, said=1)]))


def test_one_name_in_two_data_sets_is_two_patients():
    def asked(case: str, source: str, group: str) -> Prediction:
        return row(case, letters=[5, 1, 1, 1], group=group).model_copy(update={"source": source})

    rows = [asked("a", "ODIR", "1"), asked("b", "CSDI", "1"), asked("c", "CSDI", "2"), asked("d", "ODIR", "1")]
    assert answers_of(run_of(rows)).groups == ("ODIR/1", "CSDI/1", "2", "ODIR/1")
    # a group that `mgll.manifest group` merged is one patient in both
    merged = [asked("a", "ODIR", "merged:ODIR/1"), asked("b", "CSDI", "merged:ODIR/1")]
    assert answers_of(run_of(merged)).groups == ("merged:ODIR/1", "merged:ODIR/1")
