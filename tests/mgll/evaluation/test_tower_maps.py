"""One page and one picture with every tower's maps over the same photographs, and errors in one line."""

import importlib.util

import numpy as np
import pytest
from PIL import Image
from small_towers import save_small_tower, save_small_tower_with_texts

from benchmark.maps.content import chosen_images
from benchmark.maps.writing import overlay
from mgll.evaluation.settings import EvaluationSettings
from mgll.manifest.records import Record, write_manifest
from recipes.tower_maps import main

pytestmark = pytest.mark.skipif(importlib.util.find_spec("captum") is None, reason="captum is an extra")


@pytest.fixture(scope="module")
def call(tmp_path_factory) -> list[str]:
    """Red pictures with glaucoma and green ones without; a tower without texts, one with, and a convolutional trunk."""
    folder = tmp_path_factory.mktemp("maps")
    rng, records = np.random.default_rng(0), []
    for index in range(48):
        label = ("Glaucoma", "Drusen")[index % 2]
        pixels = rng.integers(0, 120, (32, 40, 3)) + np.eye(3, dtype=int)[index % 2] * 120
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
        split = ("train", "train", "val", "test")[index // 2 % 4]
        records.append(
            Record(image=f"{index}.png", split=split, group=str(index), texts={}, labels=(label,), source="<i>")
        )
    write_manifest(folder / "manifest.jsonl", records)
    plain, texts = save_small_tower(folder / "a.ckpt"), save_small_tower_with_texts(folder / "texts" / "mgll.ckpt")
    towers = [f"<b>plain={plain}", f"texts={texts}", "timm:test_resnet"]
    return [*towers, "--manifest", str(folder / "manifest.jsonl"), "--image_size", "32", "--min_train", "5"]


@pytest.mark.slow
def test_a_page_and_a_picture_hold_every_map_and_say_what_is_missing(call, tmp_path):
    assert main([*call, "--images", "2", "--class", "Glaucoma", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "maps.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2 * (1 + 2 + 3 + 1)  # photograph; no texts; all; no attention
    assert page.count("none: no attention between all places") == 2
    assert page.count("brings no text side") == 4
    assert "&lt;b&gt;plain" in page
    assert "&lt;i&gt;" in page
    assert "<b>plain" not in page
    assert "Labels: Glaucoma" in page
    assert 'src="http' not in page
    with Image.open(tmp_path / "maps.png") as picture:
        assert picture.width > picture.height > 200


@pytest.mark.slow
def test_texts_are_explained_where_there_are_texts_and_photographs_are_drawn_by_the_seed(call, tmp_path, capsys):
    own = [*call[1:2], *call[3:], "--images", "2", "--score", "text", "--out"]
    assert main([*own, str(tmp_path / "a")]) == main([*own, str(tmp_path / "b"), "--seed", "1"]) == 0
    pages = [(tmp_path / name / "maps.html").read_text(encoding="utf-8") for name in "ab"]
    assert pages[0] != pages[1]
    assert "cosine " in pages[0]
    for wrong, message in (
        ([*call[:1], *call[3:], "--score", "text"], "brings no text side"),
        ([*call, "--class", "AMD"], "no image of split 'test' has class 'AMD'; it has Drusen, Glaucoma"),
        ([*call[:1], *call], "two towers have one name"),
        ([*call[3:], "--min_train", "1000", call[0]], "no class has 1000 training images"),
        ([*call, "--images", "0"], "--images"),
    ):
        assert main([*wrong, "--out", str(tmp_path / "wrong")]) == 1
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert message in said
        assert said.startswith("error: ")


def test_without_a_class_only_photographs_are_drawn_of_which_a_probe_can_say_something():
    def record(split: str, number: int, *labels: str) -> Record:
        return Record(image=f"{split}{number}.png", split=split, group=f"{split}{number}", texts={}, labels=labels)

    kinds = [("AMD", "Glaucoma"), ("Glaucoma",), ("Drusen",), ("MH",)]
    records = [record("train", number, *kinds[number % 3]) for number in range(30)]
    records += [record("test", number, *kinds[number % 4]) for number in range(20)]
    records = [r for r in records if r.split == "train" or "Drusen" not in r.labels or r.image == "test2.png"]
    settings = EvaluationSettings(min_train=10)
    asked = chosen_images(records, [], 20, "probe", settings)
    assert {code for _, code in asked} == {"AMD", "Glaucoma"}
    assert len(asked) == 10
    assert {code for _, code in chosen_images(records, [], 20, "text", settings)} == {"AMD", "Drusen", "Glaucoma", "MH"}
    assert {code for _, code in chosen_images(records, ["MH"], 2, "probe", settings)} == {"MH"}


def test_a_map_is_red_where_it_is_highest_and_even_ones_do_not_divide_by_zero():
    square = np.full((64, 64, 3), 128, dtype=np.uint8)
    picture = overlay(square, np.array([[0.0, 0.0], [0.0, 3.0]])).astype(int)
    assert picture[-1, -1, 0] > picture[-1, -1, 2] + 50
    assert picture[0, 0, 2] >= picture[0, 0, 0]
    assert len(np.unique(overlay(square, np.ones((4, 4))).reshape(-1, 3), axis=0)) == 1
