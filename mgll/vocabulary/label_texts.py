"""The paper's granularities of text for a set of labels: disease category, and clinical explanation (Table 10)."""

from collections.abc import Iterable

from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS

DISEASE, EXPLANATION = "disease", "explanation"
#: Names of the levels of radiographs (Table 11), and of the report of a study (Table 12).
MODALITY, STUDY, SERIES, REPORT = "modality", "study", "series", "report"


def describe_labels(
    labels: Iterable[str], explanations: Iterable[str] = (), complete: bool = False, table: ClassTable = FUNDUS
) -> dict[str, tuple[str, ...]]:
    """Texts by level for an image with these class codes.

    The disease level opens with "normal" or "abnormal" and names every disease, a graded one also by its ungraded name
    ("Moderate Non-Proliferative Diabetic Retinopathy", "Diabetic Retinopathy"). The explanation level holds Table 10's sentence for
    every code, followed by `explanations` (a data set's own words about the image).

    Args:
        labels: class codes.
        explanations: more texts of the explanation level.
        complete: the labels name all that the eye has, so that one with nothing but negatives (`No AMD`) is normal and healthy.
            Otherwise nothing is said of it but these.
        table: the classes.

    Raises:
        KeyError: for a label that is not in the table.
    """
    codes: dict[str, None] = {}
    for label in labels:
        codes[label] = None
        codes.update(dict.fromkeys(table.parents(label)))  # what a grade grades is worth naming too
    sick = [code for code in codes if code != table.normal and code not in table.negative_of]
    named = [code for code in codes if code != table.normal]
    disease = [table.classes[code].name for code in named]
    if sick:
        disease.insert(0, "abnormal")
    elif table.normal and (complete or table.normal in codes):
        disease[:0] = ["normal", table.classes[table.normal].name]
    explained = [table.classes[code].explanation for code in codes]
    return {
        DISEASE: tuple(dict.fromkeys(disease)),
        EXPLANATION: tuple(dict.fromkeys(text for text in [*explained, *explanations] if text)),
    }
