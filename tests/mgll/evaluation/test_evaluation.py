"""Every reading of a tower is of the images and patients that it says, and what can't be read is said, not NaN."""

from dataclasses import replace

import numpy as np
import pytest

from mgll.evaluation.classes import classes_of, readable, truth_of
from mgll.evaluation.evaluation import evaluate
from mgll.evaluation.features import features_of
from mgll.evaluation.linear_readings import NothingToReadError
from mgll.evaluation.metrics import auc
from mgll.evaluation.parts import drawn
from mgll.evaluation.probe import fit_probe
from mgll.evaluation.settings import EvaluationSettings
from mgll.evaluation.towers import Tower, tower_file


@pytest.fixture(scope="module")
def tower(tower_path) -> Tower:
    return tower_file(tower_path)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> EvaluationSettings:
    return EvaluationSettings(
        cache=str(tmp_path_factory.mktemp("cache")), min_train=20, rare=40, shares=(0.05, 0.5), draws=2
    )


@pytest.fixture(scope="module")
def found(tower, records, settings):
    return evaluate(tower, records, settings)


def test_the_probe_is_fitted_on_train_chosen_by_val_and_read_on_test(found, tower, records, settings):
    kept = [record for record in records if record.labels]
    parts = {name: [r for r in kept if r.split == name] for name in ("train", "val", "test")}
    features, truth = (
        {name: make(own) for name, own in parts.items()}
        for make in (
            lambda own: features_of(tower, [record.image for record in own], settings.cache),
            lambda own: truth_of(found["probe"].classes, [classes_of(record.labels) for record in own]),
        )
    )
    probe = fit_probe(features["train"], truth["train"], features["val"], truth["val"])
    reading = found["probe"]
    assert reading.images == tuple(record.image for record in parts["test"])
    assert reading.strength == probe.strength == found.strength
    np.testing.assert_allclose(reading.scores, probe.scores(features["test"]), atol=1e-6)
    for score, column in zip(reading.by_class(), range(3), strict=True):
        assert score.auc == pytest.approx(auc(truth["test"][:, column], reading.scores[:, column]))
        assert score.positives + score.negatives == len(parts["test"])


def test_grades_are_folded_or_kept_and_small_classes_named(found, tower, records, settings):
    assert found["probe"].classes == ("DR", "Drusen", "Glaucoma")
    kept = evaluate(tower, records, replace(settings, grades="keep", shares=(), leave_source_out=False))
    assert kept["probe"].classes == ("Drusen", "Glaucoma", "Mild NPDR")
    assert found["probe"].left_out == {"MH": "of 119 training images 1 image has it, 20 are asked for"}
    assert "1 image without a label" in found.skipped


def test_subsets_are_rows_and_columns_of_the_probe(found):
    whole, several = found["probe"], found.readings.get("probe, multi-label images")
    assert several is None  # every such image has both classes: none of the two has a negative
    assert "probe, multi-label images: no class has 5 of these 14 images, and as many without" in found.skipped
    rare = found["probe, rare classes"]
    assert rare.classes == ("DR",)
    np.testing.assert_array_equal(rare.scores[:, 0], whole.scores[:, 0])
    half = np.arange(len(whole.images)) < 30
    part = whole.among("some", images=half, classes={"DR", "Drusen"}, least=3)
    assert part.images == whole.images[:30]
    np.testing.assert_array_equal(part.truth, whole.truth[:30, :2])
    assert whole.among("none", classes=()) is None


def test_few_labels_are_drawn_by_patient_nested_and_seeded(records):
    train = [record for record in records if record.split == "train"]
    few, more, other = drawn(train, 0.05, 0), drawn(train, 0.5, 0), drawn(train, 0.5, 1)
    assert few.sum() == 6
    assert not (few & ~more).any()
    assert not np.array_equal(more, other)
    by_patient = {record.patient: set() for record in train}
    for record, chosen in zip(train, more, strict=True):
        by_patient[record.patient].add(bool(chosen))
    assert all(len(sides) == 1 for sides in by_patient.values())
    assert drawn(train[:2], 0.001, 0).all()  # one patient at least


def test_fewer_labels_read_no_better_and_the_classes_stay_the_same(found):
    assert {reading.classes for reading in found.named("few labels")} == {found["probe"].classes}
    means = [
        np.mean([reading.summary().auc for reading in found.named(f"few labels {share}")]) for share in ("5 %", "50 %")
    ]
    assert len(found.named("few labels")) == 4
    assert 0.5 < means[0] <= means[1] <= found["probe"].summary().auc + 0.05


def test_a_left_out_source_is_read_and_not_learned(found, tower, records, settings):
    assert [reading.name for reading in found.named("left out")] == ["left out east", "left out west"]
    kept = [record for record in records if record.labels]
    for source in ("east", "west"):
        reading = found[f"left out {source}"]
        read = [r for r in kept if r.source == source and r.split == "test"]
        assert reading.images == tuple(record.image for record in read)
        train, validation = ([r for r in kept if r.source != source and r.split == name] for name in ("train", "val"))
        features = [features_of(tower, [r.image for r in own], settings.cache) for own in (train, validation, read)]
        truth = [truth_of(reading.classes, [classes_of(r.labels) for r in own]) for own in (train, validation)]
        probe = fit_probe(features[0], truth[0], features[1], truth[1])
        np.testing.assert_allclose(reading.scores, probe.scores(features[2]), atol=1e-6)
    every = evaluate(tower, records, replace(settings, left_out_images="all", shares=()))
    assert len(every["left out east"].images) == sum(r.source == "east" for r in kept)


def test_without_a_validation_split_other_patients_choose(tower, records, settings):
    kept = [record for record in records if record.split != "val"]
    found = evaluate(tower, kept, replace(settings, shares=(), leave_source_out=False))
    assert "training images of other patients chose the strength" in found["probe"].notes[0]
    assert found["probe"].summary().auc > 0.8


def test_what_a_manifest_or_tower_lacks_is_said(tower, records, settings):
    one = [record.model_copy(update={"source": "east"}) for record in records]
    found = evaluate(tower, one, replace(settings, rare=0, shares=()))
    assert "left out: all images are of one source" in found.skipped
    assert "probe, rare classes: every class has 0 training images or more" in found.skipped
    assert any("brings no text side" in sentence for sentence in found.skipped)
    found = evaluate(tower, one, replace(settings, rare=1000, shares=()))
    assert "probe, rare classes: every class has fewer than 1000 training images" in found.skipped
    assert "probe, rare classes" not in found.readings
    for changed, message in (
        ([record for record in records if record.split != "test"], "no image of split 'test' has a label"),
        (list(records)[:8], "no class has 20 training images and 5 of split 'test'"),
    ):
        with pytest.raises(NothingToReadError, match=message):
            evaluate(tower, changed, settings)
    assert readable([{"A"}, set()], [{"A"}, {"B"}], 1, 1) == (("A",), {"B": "of 2 training images 0 images have it"})


def test_reading_on_val_says_that_it_chose_too(tower, records, settings):
    found = evaluate(tower, records, replace(settings, split="val", shares=(), leave_source_out=False))
    assert "the strength was chosen on the very images that are read" in found["probe"].notes


def test_who_cannot_choose_a_strength_is_skipped_and_said_and_the_rest_is_read(tower, records, settings):
    """The west has all of the validation images, and five per cent of the patients hold none that could choose."""
    kept = [record for record in records if record.split != "val" or record.source == "west"]
    found = evaluate(tower, kept, replace(settings, shares=(0.05,), draws=2))
    assert found["left out east"].notes == ()
    assert "training images of other patients chose the strength" in found["left out west"].notes[0]
    kept = [record for record in records if record.split != "val"]
    found = evaluate(tower, kept, replace(settings, shares=(0.01, 0.5), draws=1, min_train=10))
    assert "few labels 50 %, draw 0" in found.readings
    assert any(sentence.startswith("few labels 1 %, draw 0: split 'val' has no image") for sentence in found.skipped)
    alone = [
        r for r in records if r.split != "val" and (r.split != "train" or r.source == "west" or r.group in ("p0", "p5"))
    ]
    found = evaluate(tower, alone, replace(settings, shares=(), min_train=1, min_read=1))
    assert any(sentence.startswith("left out west: split 'val' has no image") for sentence in found.skipped)
    chosen_by_nobody = replace(
        settings, shares=(), strengths=(0.01,), attentive=True, min_train=1, leave_source_out=False
    )
    few = [r for r in kept if r.split == "test" or r.group in ("p0", "p5")]
    found = evaluate(tower, few, chosen_by_nobody)
    assert any(sentence.startswith("attentive probe and fine-tuning: split 'val'") for sentence in found.skipped)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"min_read": 0}, "--min-read 0: give 1 or more"),
        ({"neighbours": -1}, "--neighbours -1: give 1 or more"),
        ({"draws": 0}, "--draws 0: give 1 or more"),
        ({"strengths": ()}, r"--strengths \(nothing\): give one or more numbers above 0"),
        ({"strengths": (1.0, float("nan"))}, "--strengths 1 nan: give"),
        ({"shares": (0.5, 10.0)}, "--shares 0.5 10: give shares of the labels"),
        ({"shares": (0.1, 0.1)}, "--shares 0.1 0.1: 0.1 stands there twice"),
        ({"fine_tune": (1, "full", 1)}, "--fine-tune 1 full 1: 1 stands there twice"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_the_name_of_their_flag(wrong, said):
    with pytest.raises(ValueError, match=said):
        EvaluationSettings(**wrong)


def test_every_share_of_the_labels_has_a_reading_of_its_own(tower, records, settings):
    found = evaluate(tower, records, replace(settings, shares=(0.045, 0.05), draws=1, leave_source_out=False))
    assert [reading.name for reading in found.named("few")] == ["few labels 4.5 %, draw 0", "few labels 5 %, draw 0"]
