"""Cases as questions to learn."""

import os
from pathlib import Path

from benchmark.cases.case import read_cases
from mgll.manifest.records import patient_of
from mgll.vocabulary.questions import LETTERS, question_text
from mllm_adapters.settings import TrainingQuestion


def training_questions(cases: str | os.PathLike[str]) -> list[TrainingQuestion]:
    """Read a file of cases as questions to fine-tune on, each with the letter and the words of its right answer, and its patient.

    Raises:
        FormatError: for a bad file of cases.
    """
    return [
        TrainingQuestion(
            Path(case.image),
            question_text(case.question, case.options),
            LETTERS[case.answer],
            case.options[case.answer],
            " ".join(patient_of(case.source, case.group)),
        )
        for case in read_cases(cases)
    ]
