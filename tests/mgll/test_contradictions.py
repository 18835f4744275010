"""Labels that contradict each other, as class codes and as texts."""

import pytest

from mgll.manifest.contradictions import contradictions_of
from mgll.manifest.records import Record
from mgll.vocabulary.contradictions import contradictions


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("Health", "Glaucoma"), {("Health", "Glaucoma")}),
        (("normal", "diabetic retinopathy"), {("Health", "DR")}),
        (("Health", "Tessellation"), {("Health", "Tessellation")}),
        (("normal", "abnormal"), {("Health", "abnormal")}),
        (("No Glaucoma", "Glaucoma"), {("No Glaucoma", "Glaucoma")}),
        (("No DR", "Moderate NPDR"), {("No DR", "Moderate NPDR")}),
        (("No AMD", "Wet AMD"), {("No AMD", "Wet AMD")}),
        (("Mild NPDR", "PDR"), {("Mild NPDR", "PDR")}),
        (("Dry AMD", "Wet AMD"), {("Dry AMD", "Wet AMD")}),
        (("No Finding", "Pneumonia"), {("No Finding", "Pneumonia")}),
        (("Health", "No AMD", "No DME"), set()),
        (("No Finding", "Support Devices", "PA view"), set()),
        (("DR", "Moderate NPDR", "No DME"), set()),
        (("No DR", "Glaucoma"), set()),
        (("Glaucoma", "Cataract", "ODC"), set()),
        (("The lungs are normal.", "Pneumonia"), set()),
        ((), set()),
    ],
)
def test_what_contradicts_what(names, found):
    assert set(contradictions(names)) == found
    assert set(contradictions(reversed(names))) == found


def test_classes_and_texts_of_all_levels_are_compared():
    record = Record(image="a", split="train", group="a", texts={"disease": ("Drusen",)}, labels=("Health",))
    assert contradictions_of(record) == ("Health beside Drusen",)
    other = record.model_copy(update={"labels": (), "texts": {"first": ("Health",), "second": ("Drusen",)}})
    assert contradictions_of(other) == ("Health beside Drusen",)
    assert contradictions_of(other.model_copy(update={"texts": {"first": ("Drusen",), "second": ("DR",)}})) == ()
