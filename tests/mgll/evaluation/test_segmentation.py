"""Masks fit their images in any way of squaring, Dice and IoU are everyone's, and a decoder draws what it was shown."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from small_towers import save_small_tower, save_small_tower_with_texts

from benchmark.segmentation import markdown, segmentation_frame, sentences
from mgll.evaluation.comparing import side_of_means
from mgll.evaluation.drawn_areas import Segmentation, dice, intersection_over_union
from mgll.evaluation.segmentation import segment
from mgll.evaluation.squares import mask_at, mask_to_square, square_to_image
from mgll.evaluation.towers import tower_file
from mgll.formats import FormatError
from mgll.images.files import ImageError
from mgll.images.preprocessing import Preprocessing, to_square
from mgll.manifest.masks import Mask, masks_beside, open_mask, read_masks, write_masks
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.readers.masks import main as read_set
from mgll.synthetic.dataset import generate
from mgll.synthetic.drawing import draw_eye, draw_masks
from recipes.segment import main


@pytest.mark.parametrize("seed", range(3))
def test_dice_and_iou_equal_scikit_learn_and_torchmetrics(seed, in_64_bits):
    from sklearn.metrics import f1_score, jaccard_score

    rng = np.random.default_rng(seed)
    truth, drawn = rng.random((2, 40, 30)) < rng.uniform(0.1, 0.6, (2, 1, 1))
    flat = truth.ravel(), drawn.ravel()
    assert dice(truth, drawn) == pytest.approx(f1_score(*flat), rel=0, abs=1e-9)
    assert intersection_over_union(truth, drawn) == pytest.approx(jaccard_score(*flat), rel=0, abs=1e-9)
    tm = pytest.importorskip("torchmetrics").functional.classification
    for number, other in ((dice, tm.binary_f1_score), (intersection_over_union, tm.binary_jaccard_index)):
        expected = other(torch.from_numpy(drawn).int(), torch.from_numpy(truth).int())
        assert number(truth, drawn) == pytest.approx(float(expected), rel=0, abs=1e-9)
    empty = np.zeros_like(truth)
    assert dice(empty, empty) == intersection_over_union(empty, empty) == 1
    assert dice(truth, empty) == intersection_over_union(truth, empty) == 0


@pytest.mark.parametrize("resize", ["pad", "squash", "crop"])
@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (64, 64), (61, 90)])
def test_a_mask_goes_where_its_image_goes_and_back(resize, shape):
    height, width = shape
    rule = Preprocessing(size=32, resize=resize, mean=(0.0, 0.0, 0.0))
    mask = np.zeros(shape, dtype=bool)
    mask[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = True
    picture = Image.fromarray(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2))
    as_image = to_square(picture, rule)[0].numpy() >= 128
    assert dice(as_image, mask_to_square(mask, rule, 32) >= 0.5) > 0.9
    back = square_to_image(mask_to_square(mask, rule, 32), rule, height, width)
    assert back.shape == shape
    assert dice(mask, back >= 0.5) > 0.9
    assert mask_at(mask, height // 2, width // 2).sum() == pytest.approx(mask.sum() / 4, rel=0.2)


def test_the_masks_of_a_drawn_eye_lie_on_its_disc():
    inside, beside = [], []
    for seed in range(12):
        drawn = draw_masks(["Glaucoma"], seed, 96)
        disc, cup = drawn["optic disc"], drawn["optic cup"]
        pixels = np.asarray(draw_eye(["Glaucoma"], seed, 96)).astype(float).sum(axis=2)
        assert 40 < disc.sum() < 96 * 96 / 4
        assert 0 < cup.sum() < disc.sum()
        assert not (cup & ~disc).any()
        inside.append(pixels[disc].mean())
        beside.append(pixels[~disc & (pixels > 60)].mean())
    assert np.mean(np.array(inside) > beside) > 0.9  # a disc is brighter than the retina


@pytest.fixture(scope="module")
def eyes(tmp_path_factory) -> Path:
    return generate(tmp_path_factory.mktemp("eyes"), 12, 0, 64, progress=False, masks=True)


def test_a_table_of_masks_comes_back_and_bad_ones_are_named(eyes, tmp_path):
    found = read_masks(masks_beside(eyes))
    assert len(found) == 12
    own = next(iter(found.values()))
    assert set(own) == {"optic cup", "optic disc"}
    disc = open_mask(own["optic disc"], 64, 64)
    assert disc.sum() > open_mask(own["optic cup"], 64, 64).sum()
    with pytest.raises(ImageError, match=r"64 x 64 pixels, but its image .* has 65 x 64"):
        open_mask(own["optic disc"], 64, 65)
    assert not open_mask(replace_mask(own["optic disc"], None), 5, 4).any()
    with pytest.raises(ImageError, match="no mask that can be read"):
        open_mask(replace_mask(own["optic disc"], str(tmp_path / "nothing.png")), 64, 64)
    write_masks(tmp_path / "a.masks.jsonl", [Mask(image="a.jpg", label="x"), Mask(image="./a.jpg", label="x")])
    with pytest.raises(FormatError, match=r"line 3: field label: 'x' of ./a\.jpg stands above already"):
        read_masks(tmp_path / "a.masks.jsonl")
    write_masks(tmp_path / "b.masks.jsonl", [])
    with pytest.raises(FormatError, match="no mask"):
        read_masks(tmp_path / "b.masks.jsonl")


def replace_mask(mask: Mask, path: str | None) -> Mask:
    return mask.model_copy(update={"mask": path})


@pytest.fixture(scope="module")
def spots(tmp_path_factory) -> Path:
    """Noise with a bright spot anywhere, and where it is."""
    folder, rng = tmp_path_factory.mktemp("spots"), np.random.default_rng(0)
    records, masks, (rows, columns) = [], [], np.mgrid[:64, :64]
    for number in range(100):
        spot = (
            np.hypot(*(grid - place for grid, place in zip((rows, columns), rng.integers(8, 56, 2), strict=True))) < 11
        )
        save(folder / f"{number}.png", rng.integers(0, 90, (64, 64, 3)) + 150 * spot[..., None])
        save(folder / f"{number}-mask.png", spot * 255)
        split = ("train", "train", "train", "val", "test")[number % 5]
        records.append(Record(image=f"{number}.png", split=split, group=str(number), texts={}))
        masks.append(Mask(image=f"{number}.png", label="spot", mask=f"{number}-mask.png"))
    write_manifest(folder / "spots.jsonl", records)
    write_masks(masks_beside(folder / "spots.jsonl"), masks)
    return folder / "spots.jsonl"


@pytest.mark.slow
def test_a_decoder_draws_what_no_fixed_place_covers_and_the_table_says_how_well(spots, tmp_path, capsys):
    plain = save_small_tower(tmp_path / "plain.ckpt", size=64)
    texts = save_small_tower_with_texts(tmp_path / "texts" / "mgll.ckpt", size=64)
    call = [f"plain={plain}", f"texts={texts}", "--manifest", str(spots), "--out", str(tmp_path / "out")]
    assert main([call[0], *call[2:], "--epochs", "30"]) == 0
    masks = read_masks(masks_beside(spots))
    of = {s: [open_mask(masks[r.image]["spot"], 64, 64) for r in read_manifest(spots, s)] for s in ("train", "test")}
    often = np.mean(of["train"], axis=0)
    fixed = max(np.mean([dice(mask, often >= share) for mask in of["test"]]) for share in np.linspace(0.02, 0.3, 15))
    found = pd.read_csv(tmp_path / "out" / "segmentation.csv").dice.item()
    assert found > fixed + 0.2
    call += ["--texts", "--epochs", "2"]
    assert main(call) == 0
    assert "plain brings no text side" in capsys.readouterr().out
    frame = pd.read_csv(tmp_path / "out" / "segmentation.csv")
    assert set(frame.method) == {"plain", "texts", "texts, with texts"}
    assert ((frame.dice_low <= frame.dice) & (frame.dice <= frame.dice_high) & (frame.iou <= frame.dice)).all()
    assert (frame.images + frame.images_without == 20).all()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "segmentations").glob("*.npz")}
    assert main(call) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not list((tmp_path / "out" / "segmentations").glob("*.begun*"))
    assert main([call[0], *call]) == 1
    assert "copies of a tower are no further seeds" in capsys.readouterr().err
    assert main([call[0], *call[2:4], "--masks", str(tmp_path / "none.jsonl"), "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_a_decoder_that_was_stopped_goes_on_from_the_very_same_inputs_to_the_same_numbers(spots, tmp_path, capsys):
    tower, records = tower_file(save_small_tower(tmp_path / "a.ckpt", size=64)), read_manifest(spots)
    masks, cache = read_masks(masks_beside(spots)), str(tmp_path / "cache")
    once = segment(tower, records, masks, cache, epochs=4, begun=tmp_path / "undisturbed")
    stopped = segment(tower, records, masks, cache, epochs=2, begun=tmp_path / "stopped")
    again = segment(tower, records, masks, cache, epochs=4, begun=tmp_path / "stopped")
    assert "decoder goes on after epoch 2" in capsys.readouterr().out
    np.testing.assert_array_equal(again.overlap["spot"], once.overlap["spot"])
    assert again.said == once.said != stopped.said
    assert not np.array_equal(stopped.overlap["spot"], once.overlap["spot"])


def test_structures_that_cannot_be_taught_chosen_or_measured_are_said(spots, tmp_path):
    tower, records = tower_file(save_small_tower(tmp_path / "a.ckpt", size=64)), list(read_manifest(spots))
    masks, cache = read_masks(masks_beside(spots)), str(tmp_path / "cache")
    of = {split: [r.image for r in records if r.split == split] for split in ("train", "val", "test")}
    nothing = {"cup": Mask(image="x", label="cup"), "scar": Mask(image="x", label="scar")}
    more = {image: {**own, **(nothing if image in of["train"] else {})} for image, own in masks.items()}
    for image in of["test"]:
        more[image] |= {"cup": masks[image]["spot"].model_copy(update={"label": "cup"}), "scar": nothing["scar"]}
        more[image] |= {"bleed": masks[image]["spot"].model_copy(update={"label": "bleed"})}
    found = segment(tower, records, more, cache, epochs=1)
    assert found.overlap.keys() == {"spot", "cup"}
    assert "no training image has cup or scar" in found.said
    assert "that is the last epoch that --epochs allows" in found.said
    said = sentences({"a": [found]}, ["spot", "cup", "scar", "bleed"], "test")
    assert said[:2] == [
        "bleed was not measured: split 'train' does not teach it",
        "scar was not measured: none of 20 images of split 'test' has it",
    ]
    assert said[2].startswith("a: ")
    assert said[2] in markdown(segmentation_frame({"a": [found]}), said)
    for changed, message in (
        (
            {image: {"bleed": own["spot"]} if image in of["val"] else own for image, own in masks.items()},
            "'val' was looked at",
        ),
        (
            {image: {"spot": nothing["cup"]} if image in of["test"] else own for image, own in masks.items()},
            "nothing to draw",
        ),
        (
            {image: own for image, own in masks.items() if image not in of["train"]},
            "no image of split 'train' has a mask",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            segment(tower, records, changed, cache, epochs=1)
    with pytest.raises(ValueError, match="--epochs 0: give 1 or more"):
        segment(tower, records, masks, cache, epochs=0)


def drawn_by(values: list[float], name: str = "a") -> Segmentation:
    numbers = np.stack([np.array(values), np.array(values) / 2], axis=1)
    images, patients = (
        tuple(f"{i}.png" for i in range(len(values))),
        tuple(("s", str(i // 2)) for i in range(len(values))),
    )
    return Segmentation(
        name, name, False, {"disc": numbers}, {"disc": images}, {"disc": patients}, {"disc": (4, 0.5)}, ""
    )


def test_the_table_pairs_patients_and_ranks():
    rng = np.random.default_rng(0)
    easy = rng.uniform(0.2, 0.9, 60)
    frame = segmentation_frame({"worse": [drawn_by([*(easy - 0.1)])], "better": [drawn_by([*easy])]})
    assert frame.method.tolist() == ["better", "worse"]
    worse = frame.iloc[1]
    assert worse.behind == pytest.approx(-0.1, abs=1e-9)
    assert worse.behind_high - worse.behind_low < 0.2 * (worse.dice_high - worse.dice_low)  # the same patients
    assert "| disc | better | 1 |" in markdown(frame)
    assert markdown(frame).count("% of 4 |") == 2
    nothing = segmentation_frame({"a": [drawn_by([0.0] * 8)]})
    assert "| 0.0\u202f%  | 0.0\u202f%  | – |" in markdown(nothing)  # nothing scatters: there is no interval to give
    two = segmentation_frame(
        {"better": [drawn_by([*easy]), drawn_by([*(easy + 0.1)])], "worse": [drawn_by([*(easy - 0.1)])]}
    )
    assert two.runs.tolist() == [2, 1]
    assert two.dice[0] == pytest.approx(easy.mean() + 0.05)
    assert two.behind_high[1] - two.behind_low[1] > 0.1  # two runs that differ say little of a third
    other = replace(drawn_by([*easy]), images={"disc": tuple(f"other{i}" for i in range(60))})
    with pytest.raises(ValueError, match="not measured on the same images"):
        segmentation_frame({"a": [drawn_by([*easy])], "b": [other]})


def test_a_mean_over_images_is_clustered_by_patient():
    values, patients = np.repeat([[0.1, 0.9, 0.5]], 4, axis=1), [("", str(i // 4)) for i in range(12)]
    side = side_of_means(values, patients)
    assert side.values[0] == pytest.approx(0.5)
    assert side.influence.shape == (1, 3)
    one_each = side_of_means(np.array([[0.1, 0.9, 0.5]]), [("", str(i)) for i in range(3)])
    np.testing.assert_allclose((side.influence**2).sum(), (one_each.influence**2).sum())
    assert (one_each.influence**2).sum() == pytest.approx(np.var([0.1, 0.9, 0.5], ddof=1) / 3)


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def test_refuge_as_published(tmp_path, capsys):
    """400 images of glaucoma and others to train, 400 to choose, 400 to read, each in a folder of its own."""
    ring = np.full((24, 30), 255)
    ring[5:15, 5:15], ring[8:12, 8:12] = 128, 0
    for image, mask in (
        ("Training400/Glaucoma/g0001.jpg", "Annotation-Training400/Disc_Cup_Masks/Glaucoma/g0001.bmp"),
        ("Training400/Non-Glaucoma/n0001.jpg", "Annotation-Training400/Disc_Cup_Masks/Non-Glaucoma/n0001.bmp"),
        ("REFUGE-Validation400/V0001.jpg", "REFUGE-Validation400-GT/Disc_Cup_Masks/V0001.bmp"),
        ("Test400/T0001.jpg", "REFUGE-Test-GT/Disc_Cup_Masks/T0001.bmp"),
        ("Test400/T0002.jpg", ""),
    ):
        save(tmp_path / "refuge" / image, np.random.default_rng(0).integers(0, 255, (24, 30, 3)))
        if mask:
            save(tmp_path / "refuge" / mask, ring)
    out = tmp_path / "refuge.jsonl"
    assert read_set(["refuge", str(tmp_path / "refuge"), "--out", str(out)]) == 0
    records = read_manifest(out)
    assert sorted(r.split for r in records) == ["test", "train", "train", "val"]
    assert {r.labels for r in records if r.split == "train"} == {("Glaucoma",), ("No Glaucoma",)}
    own = read_masks(masks_beside(out))[str(tmp_path / "refuge/Training400/Glaucoma/g0001.jpg")]
    assert open_mask(own["optic disc"], 24, 30).sum() == 100
    assert open_mask(own["optic cup"], 24, 30).sum() == 16
    assert "no mask of its name: 1 images" in capsys.readouterr().out
    assert json.loads(masks_beside(out).read_text().splitlines()[1])["image"].startswith("refuge/")


def test_idrid_as_published(tmp_path, capsys):
    base, area = tmp_path / "A. Segmentation", np.zeros((20, 30, 3))
    area[2:6, 3:8, 0] = 255  # red on black, as published
    kinds = {"MA": "1. Microaneurysms", "EX": "3. Hard Exudates", "OD": "5. Optic Disc"}
    for part, names in (("a. Training Set", ["01", "02", "03"]), ("b. Testing Set", ["55"])):
        for name in names:
            save(base / "1. Original Images" / part / f"IDRiD_{name}.jpg", np.zeros((20, 30, 3)))
            for code, folder in kinds.items():
                if (name, code) != ("02", "EX"):
                    save(base / "2. All Segmentation Groundtruths" / part / folder / f"IDRiD_{name}_{code}.tif", area)
    out = tmp_path / "idrid.jsonl"
    assert read_set(["idrid", str(base), "--out", str(out)]) == 0
    by_name = {Path(r.image).stem: r for r in read_manifest(out)}
    assert by_name["IDRiD_55"].split == "test"
    assert {by_name[f"IDRiD_0{n}"].split for n in (1, 2, 3)} <= {"train", "val"}
    own = read_masks(masks_beside(out))[by_name["IDRiD_02"].image]
    assert open_mask(own["microaneurysms"], 20, 30).sum() == 20
    assert own["hard exudates"].mask is None
    assert own["soft exudates"].mask is None
    assert "no picture of hard exudates: read as none in the image: 1 images" in capsys.readouterr().out
    assert read_set(["refuge", str(base), "--out", str(tmp_path / "no.jsonl")]) == 1
    assert "no image g0001.jpg" in capsys.readouterr().err


def test_masks_of_drawn_eyes_can_come_later_but_not_into_another_data_set(tmp_path):
    manifest = generate(tmp_path, 4, 0, 48, progress=False)
    assert not masks_beside(manifest).exists()
    generate(tmp_path, 4, 0, 48, progress=False, masks=True)
    before = masks_beside(manifest).read_bytes()
    with pytest.raises(FileExistsError):
        generate(tmp_path, 4, 1, 48, progress=False, masks=True)
    assert masks_beside(manifest).read_bytes() == before


def test_masks_find_their_images_where_the_folder_is_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("g0001", "V0001", "T0001"):
        save(tmp_path / "real" / "images" / f"{name}.jpg", np.zeros((8, 8, 3)))
        save(tmp_path / "real" / "masks" / f"{name}.bmp", np.zeros((8, 8)))
    out = tmp_path / "link" / "refuge.jsonl"
    assert read_set(["refuge", str(tmp_path / "link"), "--out", str(out)]) == 0
    assert {record.image for record in read_manifest(out)} == set(read_masks(masks_beside(out)))
