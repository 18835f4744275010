"""One eye: reproducible, every class leaves its mark where it belongs, left and right mirror, labels that can't stand together."""

from itertools import combinations
from math import pi

import numpy as np
import pytest
from PIL import Image

from mgll.synthetic import draw_eye, sample_eye
from mgll.synthetic.anatomy import Anatomy, cup_mask, sample_anatomy
from mgll.synthetic.camera import sample_camera
from mgll.synthetic.canvas import Canvas
from mgll.synthetic.compatibility import EXCLUSIVE, check_labels, compatible, drawn_codes
from mgll.synthetic.contact_sheet import contact_sheet
from mgll.synthetic.findings import FINDINGS, GRADES
from mgll.synthetic.nerve import cupped, even_cup, glaucomatous
from mgll.synthetic.sampling import class_weights, main_labels
from mgll.synthetic.vessels import grow_vessels
from mgll.vocabulary.diseases import NEGATIVE_OF, benchmark_classes, diseases, true_codes

SIZE = 96
CLASSES = [disease.code for disease in benchmark_classes()]


def pixels(labels: list[str] | tuple[str, ...], seed: int, **settings) -> np.ndarray:
    return np.asarray(draw_eye(labels, seed, SIZE, **settings)).astype(np.float64) / 255


def anatomy(seed: int) -> Anatomy:
    return sample_anatomy(np.random.default_rng(seed), np.random.default_rng([seed, 1]))


def test_same_arguments_same_pixels_other_seed_other_eye():
    first, again = draw_eye(["PDR", "DME"], 3, SIZE), draw_eye(["PDR", "DME"], 3, SIZE)
    assert first.mode == "RGB"
    assert first.size == (SIZE, SIZE)
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != draw_eye(["PDR", "DME"], 4, SIZE).tobytes()
    # The order in which labels are written does not matter, nor a parent beside its grade.
    assert draw_eye(["DME", "DR", "PDR"], 3, SIZE).tobytes() == first.tobytes()


def test_every_code_of_the_table_is_known_and_every_class_drawn():
    assert set(CLASSES) <= set(FINDINGS) <= set(diseases())
    assert {grade for grades in GRADES.values() for grade in grades} <= set(FINDINGS)


@pytest.mark.parametrize("code", [code for code in FINDINGS if code not in ("Health", "Other", "No DME")])
def test_a_finding_changes_the_eye_and_only_as_much_as_it_may(code):
    view = "disc" if code in ("No Glaucoma", "ODC", "ODP") else "standard"
    change = []
    for seed in range(3):
        with_it = pixels([code], seed, view=view)
        without = pixels([], seed, view=view)
        change.append(np.abs(with_it - without).max(axis=2))
    strongest = np.quantile(np.array(change), 0.999)
    assert strongest > 0.06, "it can hardly be seen"
    # What lies in front of the whole retina may change all of it; a lesion leaves most of the eye as it was.
    if not FINDINGS[code].media and not FINDINGS[code].reshape:
        assert (np.array(change) < 0.06).mean() > 0.6


def test_a_diabetic_eye_without_macular_edema_is_a_diabetic_eye():
    assert np.array_equal(
        pixels(["Mild NPDR", "No DME"], 5, view="standard"), pixels(["Mild NPDR"], 5, view="standard")
    )
    macula = draw_eye(["Moderate NPDR", "DME"], 5, SIZE, view="macula")
    assert macula.tobytes() != draw_eye(["Moderate NPDR"], 5, SIZE, view="macula").tobytes()


@pytest.mark.parametrize("labels", [["Health"], ["BRVO"], ["Glaucoma", "Cataract"]])
def test_the_right_eye_mirrors_the_left(labels):
    left, right = pixels(labels, 11, laterality="left"), pixels(labels, 11, laterality="right")
    assert np.array_equal(left, right[:, ::-1])
    assert not np.array_equal(left, right)
    sides = {np.array_equal(pixels(labels, seed), pixels(labels, seed, laterality="left")) for seed in (0, 1, 2, 3, 4)}
    assert sides == {True, False}, "unasked, both eyes occur"


def test_both_eyes_of_a_person_share_their_pigmentation():
    def colour(seed: int, person: int) -> np.ndarray:
        drawn = sample_anatomy(np.random.default_rng(person), np.random.default_rng([seed, 1]))
        return np.array([*drawn.background, drawn.melanin])

    assert np.array_equal(colour(1, person=7), colour(2, person=7))
    assert not np.array_equal(colour(1, person=7), colour(1, person=8))
    same = draw_eye([], 1, SIZE, person=7).tobytes()
    assert same == draw_eye([], 1, SIZE, person=7).tobytes() != draw_eye([], 1, SIZE, person=8).tobytes()


def test_the_surround_is_black_and_the_field_is_lit():
    for seed in range(6):
        image = pixels(["Health"], seed)
        corners = np.stack([image[:5, :5], image[:5, -5:], image[-5:, :5], image[-5:, -5:]])
        assert corners.max() < 0.1
        assert image[SIZE // 2 - 8 : SIZE // 2 + 8, SIZE // 2 - 8 : SIZE // 2 + 8].mean() > corners.mean() + 0.1


def test_vessels_arch_round_the_macula_and_spare_the_fovea():
    for seed in range(5):
        eye = anatomy(seed)
        trunks, branches, twigs = grow_vessels(eye, np.random.default_rng(seed))
        assert np.hypot(trunks.x[:, 0], trunks.y[:, 0]).max() < 0.3, "trunks rise from the disc"
        for order in (trunks, branches, twigs):
            near = np.hypot(order.x - eye.fovea[0], order.y - eye.fovea[1]) < 0.25
            assert order.radius[near].max(initial=0) < 0.003
        temporal = trunks.arcade < 2
        at_fovea = np.abs(trunks.x[temporal] - eye.fovea[0]).argmin(axis=1)
        height = np.abs(trunks.y[temporal][np.arange(4), at_fovea])
        assert height.min() > 1.0
        assert trunks.radius[trunks.vein, 0].mean() > trunks.radius[~trunks.vein, 0].mean()


def test_the_cup_tells_cupping_from_health_in_the_mask_and_in_the_picture():
    canvas = Canvas(256, 90.0, (0.0, 0.0))
    share: dict[str, list[float]] = {"health": [], "normal": [], "cupping": [], "glaucoma": []}
    for seed in range(12):
        eye, rng = anatomy(seed), np.random.default_rng(seed)
        shapes = {
            "health": eye,
            "normal": even_cup(eye, rng),
            "cupping": cupped(eye, rng),
            "glaucoma": glaucomatous(eye, rng),
        }
        for name, shape in shapes.items():
            disc = pi / 4 * shape.disc_width * shape.disc_height
            share[name].append(float(cup_mask(canvas, shape).sum()) / canvas.scale**2 / disc)
    assert max(share["health"] + share["normal"]) < 0.36 < min(share["cupping"])
    assert min(share["glaucoma"]) > 0.36
    # In the photograph: the cup is the paler part of the disc, so green and blue rise in its ring and hardly elsewhere.
    for seed in range(4):
        gain = pixels(["ODC"], seed, view="disc") - pixels(["Health"], seed, view="disc")
        pale = gain[..., 2] > 0.05
        assert 0.002 < pale.mean() < 0.06


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["Health", "Drusen"], "healthy eye"),
        (["DME", "No DME", "PDR"], "No DME"),
        (["Wet AMD", "No AMD"], "No AMD"),
        (["Mild NPDR", "PDR"], "grade of diabetic retinopathy"),
        (["CSR", "Drusen"], "finding of the macula"),
        (["No DME"], "diabetic eye"),
        (["Scurvy"], "no drawing for 'Scurvy'"),
        (["CRAO", "Macular Hole"], "finding of the macula"),
    ],
)
def test_labels_that_cannot_stand_together_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        draw_eye(labels, 0, SIZE)


def test_too_small_a_picture_is_refused():
    with pytest.raises(ValueError, match="size is 16"):
        draw_eye(["Health"], 0, 16)


def test_every_exclusive_group_excludes():
    for _, group in EXCLUSIVE:
        for pair in combinations(sorted(group), 2):
            if len(drawn_codes(pair)) == 2:
                assert not compatible(pair)
    assert compatible(["HR", "Cataract", "Drusen"])
    assert drawn_codes(["AMD", "CN", "Wet AMD"]) == ("Wet AMD",)


def test_sampled_eyes_are_possible_and_several_findings_occur():
    rng = np.random.default_rng(0)
    eyes = [sample_eye(rng) for _ in range(2500)]
    for labels in eyes:
        check_labels(labels)
        assert not (set(labels) & set(NEGATIVE_OF.values())) & {
            NEGATIVE_OF[label] for label in labels if label in NEGATIVE_OF
        }
    held = [true_codes(labels) if not set(labels) & set(NEGATIVE_OF) else set(labels) for labels in eyes]
    for code in CLASSES:
        assert sum(code in codes for codes in held) > 25, code
    several = sum(len(set(labels) - set(NEGATIVE_OF) - {"Other", "DME"}) > 1 for labels in eyes)
    assert 0.05 < several / len(eyes) < 0.4


def test_class_weights_follow_table_14_as_far_as_asked():
    paper, flat, default = class_weights(1.0), class_weights(0.0), class_weights()
    assert paper["Health"] == pytest.approx(890 / 2233)
    assert list(flat.values()) == pytest.approx([1 / 25] * 25)
    assert sum(default.values()) == pytest.approx(1)
    assert 4 < default["Health"] / default["AR"] < 6
    assert list(default) == CLASSES


@pytest.mark.parametrize("code", CLASSES)
def test_the_main_class_holds_for_the_eye_drawn_of_it(code):
    rng = np.random.default_rng(1)
    for _ in range(8):
        labels = main_labels(rng, code)
        check_labels(labels)
        assert code in true_codes(labels) | set(labels)


def test_views_follow_what_is_asked():
    def centres(odds: tuple[float, float, float]) -> np.ndarray:
        return np.array([sample_camera(np.random.default_rng(seed), (2.5, 0.3), odds).centre for seed in range(30)])

    assert abs(centres((0, 0, 1))[:, 0].mean() - 0.15) < 0.2
    assert abs(centres((0, 1, 0))[:, 0].mean() - 2.5) < 0.2
    assert abs(centres((1, 0, 0))[:, 0].mean() - 1.25) < 0.2


def test_noise_is_the_same_pattern_at_every_size():
    small = Canvas(64, 10.0, (0.0, 0.0)).noise(np.random.default_rng(0), 0.8, 2)
    large = Canvas(128, 20.0, (0.0, 0.0)).noise(np.random.default_rng(0), 0.8, 2)
    halved = np.asarray(Image.fromarray(large).reduce(2))
    assert np.abs(small - halved).max() < 0.05
    assert abs(float(large.std()) - 1) < 0.3


def test_stamps_cover_their_area_and_stay_inside():
    canvas = Canvas(100, 20.0, (0.0, 0.0))
    one = canvas.stamp(np.array([0.3]), np.array([-0.4]), np.array([0.5]))
    assert one.sum() == pytest.approx(pi * 10**2, rel=0.02)
    row, column = np.unravel_index(one.argmax(), one.shape)
    assert abs(column - (50 + 0.3 * 20)) < 10
    assert abs(row - (50 - 0.4 * 20)) < 10
    assert canvas.stamp(np.array([90.0]), np.array([0.0]), np.array([0.5])).max() == 0
    half_outside = canvas.stamp(np.array([2.5]), np.array([0.0]), np.array([0.5]))
    assert half_outside.sum() == pytest.approx(pi * 10**2 / 2, rel=0.05)


def test_contact_sheet_has_a_row_a_class():
    sheet = contact_sheet(["Drusen", "Other"], columns=3, size=48)
    assert sheet.height == 2 * (48 + 16)
    assert sheet.width > 3 * 48
    assert np.asarray(sheet).std() > 10
