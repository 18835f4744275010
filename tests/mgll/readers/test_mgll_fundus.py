"""The authors' list files, JSON entries and npz images, laid out as their code reads them."""

import json

import numpy as np
import pytest

from mgll.formats import FormatError
from mgll.images.preprocessing import open_image
from mgll.manifest.records import read_manifest
from mgll.readers.mgll_fundus import main, read_mgll_fundus


@pytest.fixture
def folder(tmp_path):
    """Two lists, two JSON files, three images of which one is grey; the paths begin with a slash as theirs do."""
    random = np.random.default_rng(0)
    entries = {
        "train": [
            {
                "ImageID": "/All_data/IDRID/a.b.jpg",
                "Disease": "Abnormal, Cataract, Myopia",
                "Description": "Opacity, seen",
            },
            {"ImageID": "/All_data/FIVES/c.png", "Disease": "Normal, Healthy", "Description": ["Clear optic disk"]},
        ],
        "val": [{"ImageID": "/All_data/FIVES/d.png", "Disease": "Abnormal, Gout", "Description": "Unknown here"}],
    }
    for name, shape in (("IDRID/a.b", (6, 8, 3)), ("FIVES/c", (6, 8)), ("FIVES/d", (6, 8, 3))):
        path = tmp_path / "All_data_npz" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, image=random.integers(0, 255, shape, dtype=np.uint8))
    (tmp_path / "json").mkdir()
    for split, own in entries.items():
        (tmp_path / "json" / f"{split}.json").write_text(json.dumps(own))
        (tmp_path / f"2level_list_{split}.txt").write_text(f"/json/{split}.json\n")
    return tmp_path


def test_the_authors_layout_becomes_a_manifest_that_points_into_npz_files(folder, capsys):
    assert main([str(folder), "--list", "2level_list", "--out", str(folder / "m.jsonl")]) == 0
    assert (
        "no class for label 'Gout'; --vocabulary FILE.csv with label,class and a line such as Gout,CLASS gives it one: 1 images"
        in capsys.readouterr().out
    )
    cataract, healthy, gout = read_manifest(folder / "m.jsonl")
    assert cataract.texts == {"disease": ("Abnormal", "Cataract", "Myopia"), "explanation": ("Opacity, seen",)}
    assert (cataract.labels, healthy.labels, gout.labels) == (("Cataract", "Myopia"), ("Health",), ())
    assert (cataract.split, gout.split, cataract.source) == ("train", "val", "IDRID")
    stored = np.load(folder / "All_data_npz" / "IDRID" / "a.b.npz")["image"]
    assert np.array_equal(np.asarray(open_image(cataract.image)), stored)
    grey = np.load(folder / "All_data_npz" / "FIVES" / "c.npz")["image"]
    assert np.array_equal(np.asarray(open_image(healthy.image)), np.repeat(grey[..., None], 3, axis=2))


def test_the_authors_prompt_and_their_three_level_list(folder):
    records, _ = read_mgll_fundus(folder, "2level_list", "This is a fundus image of ")
    assert records[0].texts["disease"][1] == "This is a fundus image of Cataract"
    entry = {"ImageID": "/x/1.npz", "modality": "DX", "study_description_0": "XR CHEST", "series_description": "PA"}
    (folder / "json" / "x.json").write_text(json.dumps([entry]))
    (folder / "MIDRC_list_train.txt").write_text("/json/x.json\n")
    (record,), _ = read_mgll_fundus(folder, "MIDRC_list")
    assert record.texts == {"modality": ("DX",), "study": ("XR CHEST",), "series": ("PA",)}
    assert record.image == "/x/1.npz"


def test_an_image_in_both_lists_stays_in_training_and_is_told(folder):
    (folder / "2level_list_val.txt").write_text("/json/train.json\n/json/val.json\n")
    records, notes = read_mgll_fundus(folder, "2level_list")
    assert [record.split for record in records] == ["train", "train", "val"]
    assert notes["named again in 2level_list_val.txt; the first entry is kept, in split train"] == 2


def test_missing_images_are_left_out_and_counted(folder, capsys):
    (folder / "All_data_npz" / "FIVES" / "c.npz").unlink()
    assert main([str(folder), "--list", "2level_list", "--out", str(folder / "m.jsonl")]) == 0
    assert len(read_manifest(folder / "m.jsonl")) == 2
    assert "c.npz: 1 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ('{"a": 1}', "expected a list of entries, found dict"),
        ('[{"Disease": "x"}]', "entry 0: expected an object with ImageID"),
        ('[{"ImageID": "a.jpg"}]', "expected /FOLDER/SET/FILE, found 'a.jpg'"),
        ('[{"ImageID": "/a/b/c.jpg", "Disease": 3}]', "field Disease of '/a/b/c.jpg': expected a text, found 3"),
    ],
)
def test_a_wrong_entry_is_named(folder, content, message):
    (folder / "json" / "train.json").write_text(content)
    with pytest.raises(FormatError, match=message):
        read_mgll_fundus(folder, "2level_list")


def test_a_missing_list_names_those_that_are_there(folder):
    with pytest.raises(FormatError, match="the folder has \\['2level_list'\\]"):
        read_mgll_fundus(folder, "original_list")
    (folder / "2level_list_train.txt").write_text("/json/nowhere.json\n")
    with pytest.raises(FormatError, match="line 1: no such file"):
        read_mgll_fundus(folder, "2level_list")


def test_missing_and_bare_values_are_no_words_and_counted(folder):
    entry = {"ImageID": "/All_data/FIVES/d.png", "Disease": "nan, Drusen, 2", "Description": "N/A"}
    (folder / "json" / "train.json").write_text(json.dumps([entry]))
    records, notes = read_mgll_fundus(folder, "2level_list")
    assert (records[0].texts, records[0].labels) == ({"disease": ("Drusen",)}, ("Drusen",))
    for what in ("Disease is 'nan'", "Disease is '2'", "Description is 'N/A'"):
        assert notes[f"{what}: no words, left out"] == 1


def test_a_disease_of_several_meanings_needs_a_vocabulary(folder, capsys):
    entry = {"ImageID": "/All_data/FIVES/d.png", "Disease": "Abnormal, HR"}
    (folder / "json" / "train.json").write_text(json.dumps([entry]))
    flags = [str(folder), "--list", "2level_list", "--out", str(folder / "m.jsonl")]
    assert main(flags) == 1
    assert "'HR' (1 images): HR (Hypertensive Retinopathy) or Hemorrhagic Retinopathy" in "".join(capsys.readouterr())
    assert main([*flags, "--vocabulary", "rfmid"]) == 0
    assert read_manifest(folder / "m.jsonl")[0].labels == ("Hemorrhagic Retinopathy",)
