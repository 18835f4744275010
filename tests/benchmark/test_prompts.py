"""The question's words are those of the paper's appendix."""

import pytest

from mgll.vocabulary.questions import INSTRUCTION, QUESTIONS, question_text


def test_question_text_is_wording_options_instruction_line_by_line():
    options = ("Glaucoma", "Drusen", "Chorioretinitis", "Hypertensive Retinopathy")
    assert question_text(QUESTIONS[0], options).split("\n") == [
        "What is the most reasonable diagnosis?",
        "A. Glaucoma",
        "B. Drusen",
        "C. Chorioretinitis",
        "D. Hypertensive Retinopathy",
        "Answer with the option's letter from the given choices directly.",
    ]


def test_wordings_are_three_different_questions():
    assert len(set(QUESTIONS)) == 3
    assert all(question.endswith("?") and "\n" not in question for question in (*QUESTIONS,))
    assert "letter" in INSTRUCTION


@pytest.mark.parametrize("options", [(), ("Glaucoma",), ("a", "b", "c", "d", "e")])
def test_other_than_four_options_is_an_error(options):
    with pytest.raises(ValueError, match="has 4 options"):
        question_text(QUESTIONS[0], options)
