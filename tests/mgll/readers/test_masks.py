"""QaTa-COV19 (the paper's Table 25) in its published layout and in that of its texts: masks, descriptions, splits, patients."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from layouts import table
from PIL import Image

from mgll.manifest.masks import masks_beside, open_mask, read_masks
from mgll.manifest.records import read_manifest
from mgll.readers.masks import main as read_set


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def qata(folder, arrangement):
    """QaTa-COV19 as published, or as the authors of its texts arrange it."""
    images, masks, around = arrangement
    area = np.zeros((12, 16))
    area[2:6, 3:8] = 255
    names = {
        "train": ["covid_1", "covid_2", "sub-S03001_ses-E1_run-1", "covid_9"],
        "test": ["bjorke_1", "sub-S03001_ses-E2_run-1"],
    }
    for split, own in names.items():
        for name in own:
            save(folder / around.format(split.title()) / images / f"{name}.png", np.full((12, 16), 90))
            if name != "covid_9":
                save(folder / around.format(split.title()) / masks / f"mask_{name}.png", area)
    return folder


PUBLISHED, OF_ITS_TEXTS = ("Images", "Ground-truths", "QaTa-COV19/{} Set"), ("img", "labelcol", "{}_Folder")


@pytest.mark.parametrize("arrangement", [PUBLISHED, OF_ITS_TEXTS])
def test_qata_cov19_as_published_with_the_texts_and_the_split_of_their_authors(tmp_path, capsys, arrangement):
    folder, out = qata(tmp_path / "qata", arrangement), tmp_path / "qata.jsonl"
    said = "Bilateral pulmonary infection, two infected areas, upper left lung and lower right lung."
    tables = {
        "Train_text_for_Covid19.xlsx": [
            ("Image", "Description"),
            ("mask_covid_1.png", said),
            ("mask_covid_2.png", said),
        ],
        "Test_text_for_Covid19.xlsx": [("Image", "Description"), ("bjorke_1", said)],
        "Val_ID.xlsx": [("Image",), ("mask_covid_2",)],
    }
    for name, rows in tables.items():
        table(folder / name, *rows)
    assert read_set(["qata", str(folder), "--out", str(out)]) == 0
    by_name = {Path(record.image).stem: record for record in read_manifest(out)}
    assert {name: record.split for name, record in by_name.items()} == {
        "covid_1": "train",
        "covid_2": "val",
        "sub-S03001_ses-E1_run-1": "train",
        "bjorke_1": "test",
        "sub-S03001_ses-E2_run-1": "test",
    }
    assert by_name["covid_1"].texts == {"disease": ("COVID-19",), "report": (said,)}
    assert by_name["sub-S03001_ses-E1_run-1"].texts == {"disease": ("COVID-19",)}
    assert by_name["sub-S03001_ses-E2_run-1"].group == "sub-S03001 in test"
    own = read_masks(masks_beside(out))[by_name["bjorke_1"].image]
    assert open_mask(own["COVID-19 infection"], 12, 16).sum() == 20
    told = capsys.readouterr().out
    assert "left out: no mask of its name: 1 images" in told
    assert "without a description: 2 images" in told
    assert "its patient is in several official splits, which are kept: a group in each: 2 images" in told
    table(folder / "Val_text.xlsx", ("Image", "Description"), ("mask_covid_1.png", "none"))
    assert read_set(["qata", str(folder), "--out", str(out)]) == 1
    assert "covid_1 has another description above or in another table" in capsys.readouterr().err


def test_qata_cov19_without_texts_is_split_by_patient_and_other_folders_are_named(tmp_path, capsys):
    folder, out = qata(tmp_path / "qata", PUBLISHED), tmp_path / "qata.jsonl"
    for number in range(40):
        for place in ("Images/{}.png", "Ground-truths/mask_{}.png"):
            path = folder / "QaTa-COV19" / "Train Set" / place
            shutil.copy(str(path).format("covid_1"), str(path).format(f"x_{number}"))
    assert read_set(["qata", str(folder), "--out", str(out)]) == 0
    assert 2 <= sum(record.split == "val" for record in read_manifest(out)) <= 20
    assert "no table of texts (*_text*.xlsx) is there" in capsys.readouterr().out
    # of the masks' folder alone nothing can be made, of one split something can
    for place, code in (("Train Set/Ground-truths", 1), ("Test Set", 0)):
        assert read_set(["qata", str(folder / "QaTa-COV19" / place), "--out", str(tmp_path / "part.jsonl")]) == code
    assert "with a mask in Ground-truths beside it" in capsys.readouterr().err
