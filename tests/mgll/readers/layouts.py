"""Synthetic copies of published data sets: their folders, file names and columns, with images of a few pixels."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from openpyxl import Workbook
from PIL import Image


def images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (4, 4)).save(folder / name)


def table(path: Path, *rows: Sequence[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".xlsx":
        book = Workbook()
        for row in rows:
            book.active.append(list(row))
        book.save(path)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def lines(path: Path, content: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in content), encoding="utf-8")


def fives(folder: Path) -> None:
    root = folder / "FIVES A Fundus Image Dataset for AI-based Vessel Segmentation"
    for split in ("train", "test"):
        images(root / split / "Original", "1_A.png", "2_D.png", "3_G.png", "4_N.png")
        images(root / split / "Ground truth", "1_A.png")
        (root / split / "Original" / "Thumbs.db").write_bytes(b"of Windows")


def idrid(folder: Path) -> None:
    root = folder / "B. Disease Grading"
    for letter, name in (("a", "Training"), ("b", "Testing")):
        images(root / "1. Original Images" / f"{letter}. {name} Set", "IDRiD_001.jpg", "IDRiD_002.jpg")
        table(
            root / "2. Groundtruths" / f"{letter}. IDRiD_Disease Grading_{name} Labels.csv",
            ("Image name", "Retinopathy grade", "Risk of macular edema ", "", ""),
            ("IDRiD_001", 3, 2, "", ""),
            ("IDRiD_002", 0, 0, "", ""),
        )
    # part C has folders of the same names
    images(folder / "C. Localization" / "1. Original Images" / "a. Training Set", "IDRiD_001.jpg")


def ddr(folder: Path) -> None:
    for name, grades in (("train", "04"), ("valid", "15"), ("test", "23")):
        images(folder / "DDR-dataset" / "DR_grading" / name, *(f"007-{grade}-{name}.jpg" for grade in grades))
        lines(
            folder / "DDR-dataset" / "DR_grading" / f"{name}.txt",
            (f"007-{grade}-{name}.jpg {grade}" for grade in grades),
        )


def adam(folder: Path) -> None:
    images(folder / "ADAM/Train/Training-image-400/AMD", "A0001.jpg")
    images(folder / "ADAM/Train/Training-image-400/Non-AMD", "N0001.jpg")
    images(folder / "ADAM/Validation/image", "V0001.jpg")
    lines(folder / "ADAM/Validation/validation_classification_GT.txt", ["V0001.jpg 1"])
    images(folder / "ADAM/Test/Test-image-400", "T0001.jpg")
    lines(folder / "ADAM/Test/test_classification_GT.txt", ["T0001.jpg  0"])


def adam_of_2018(folder: Path) -> None:
    images(folder / "Training400/AMD", *(f"A{n:04d}.jpg" for n in range(1, 21)))
    images(folder / "Training400/Non-AMD", *(f"N{n:04d}.jpg" for n in range(1, 21)))


def palm(folder: Path) -> None:
    for name, letters in (("Training", "PN"), ("Validation", "VV"), ("Testing", "TT")):
        own = [f"{letter}000{number}.jpg" for number, letter in enumerate(letters)]
        images(folder / "PALM" / name / "Images", *own)
        table(folder / "PALM" / name / "Classification Labels.xlsx", ("imgName", "Label"), (own[0], 1), (own[1], 0))


def palm_of_2019(folder: Path) -> None:
    images(folder / "PALM-Training400/PALM-Training400", "P0001.jpg", "H0001.jpg", "N0001.jpg")
    images(folder / "PALM-Validation400", "V0001.jpg")
    table(
        folder / "PALM-Validation-GT/PM_Label_and_Fovea_Location.xlsx",
        ("ID", "imgName", "Label", "Fovea_X", "Fovea_Y"),
        (1, "V0001.jpg", 0, 7.5, 8.5),
    )


def refuge(folder: Path) -> None:
    root = folder / "REFUGE2/Train"
    images(root / "REFUGE1-train/Training400/Glaucoma", "g0001.jpg")
    images(root / "REFUGE1-train/Training400/Non-Glaucoma", "n0001.jpg")
    images(root / "REFUGE1-val/REFUGE-Validation400", "V0001.jpg")
    images(root / "REFUGE1-test/Test400", "T0001.jpg")
    table(
        root / "REFUGE1-val/Fovea_locations.xlsx",
        ("ID", "ImgName", "Fovea_X", "Fovea_Y", "Glaucoma Label"),
        (1, "V0001.jpg", 1.5, 2.5, 1),
    )
    table(
        root / "REFUGE1-test/Glaucoma_label_and_Fovea_location.xlsx",
        ("ID", "ImgName", "Label(Glaucoma=1)", "Fovea_X", "Fovea_Y"),
        (1, "T0001.jpg", 0, 1.5, 2.5),
    )


def refuge_of_2018(folder: Path) -> None:
    images(folder / "Training400/Glaucoma", "g0001.jpg")
    images(folder / "Training400/Non-Glaucoma", "n0001.jpg")
    images(folder / "REFUGE-Validation400", "V0001.jpg")
    images(folder / "REFUGE-Test400", "T0001.jpg")
    for place, name, label in (
        ("REFUGE-Validation400-GT", "Fovea_locations.xlsx", "Glaucoma Label"),
        ("REFUGE-Test-GT", "Glaucoma_label_and_Fovea_location.xlsx", "Label(Glaucoma=1)"),
    ):
        table(folder / place / name, ("ID", "ImgName", label), (1, f"{place[7]}0001.jpg", 1))


def rim_one(folder: Path) -> None:
    for partition in ("partitioned_randomly", "partitioned_by_hospital"):
        root = folder / "RIM-ONE_DL_images" / partition
        images(root / "training_set" / "glaucoma", "r1_Im001.png", "r3_G-8-R.png")
        images(root / "training_set" / "normal", "r2_Im257.png")
        images(root / "test_set" / "glaucoma", "r3_G-8-L.png" if partition.endswith("randomly") else "r2_Im300.png")
        images(root / "test_set" / "normal", "r3_N-2-L.png")


_RFMID = [
    "ID",
    "Disease_Risk",
    "DR",
    "ARMD",
    "MH",
    "DN",
    "MYA",
    "BRVO",
    "TSLN",
    "ERM",
    "LS",
    "MS",
    "CSR",
    "ODC",
    "CRVO",
    "TV",
    "AH",
    "ODP",
    "ODE",
    "ST",
    "AION",
    "PT",
    "RT",
    "RS",
    "CRS",
    "EDN",
    "RPEC",
    "MHL",
    "RP",
    "CWS",
    "CB",
    "ODPM",
    "PRH",
    "MNF",
    "HR",
    "CRAO",
    "TD",
    "CME",
    "PTCR",
    "CF",
    "VH",
    "MCA",
    "VS",
    "BRAO",
    "PLQ",
    "HPED",
    "CL",
]


def rfmid(folder: Path) -> None:
    for place, name, below in (
        ("Training_Set", "Training", "Training"),
        ("Evaluation_Set", "Validation", "Validation"),
        ("Test_Set", "Testing", "Test"),
    ):
        images(folder / place / place / below, "1.png", "2.png", "3.png")
        sick = [("1", {"Disease_Risk", "DR", "MH"}), ("2", set()), ("3", {"Disease_Risk", "CRVO"})]
        rows = [(number, *(int(column in own) for column in _RFMID[1:])) for number, own in sick]
        table(folder / place / place / f"RFMiD_{name}_Labels.csv", _RFMID, *rows)


def rfmid_of_the_challenge(folder: Path) -> None:
    for letter, name in (("a", "Training"), ("b", "Validation"), ("c", "Testing")):
        images(folder / "1. Original Images" / f"{letter}. {name} Set", "1.png")
        row = (1, *(int(column in ("Disease_Risk", "DN")) for column in _RFMID[1:]))
        table(folder / "2. Groundtruths" / f"{letter}. RFMiD_{name}_Labels.csv", _RFMID, row)


def odir(folder: Path) -> None:
    images(folder / "ODIR-5K_Training_Dataset", "0_left.jpg", "0_right.jpg", "9_left.jpg", "9_right.jpg")
    images(folder / "preprocessed_images", "0_left.jpg", "0_right.jpg", "9_left.jpg", "9_right.jpg")
    sides = ("Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords", "Right-Diagnostic Keywords")
    table(
        folder / "ODIR-5K_Training_Annotations(Updated)_V2.xlsx",
        ("ID", "Patient Age", "Patient Sex", *sides, *"NDGCAHMO"),
        (0, 69, "Female", "0_left.jpg", "0_right.jpg", "cataract", "normal fundus", 0, 0, 0, 1, 0, 0, 0, 0),
        (
            *(9, 45, "Male", "9_left.jpg", "9_right.jpg"),
            "moderate non proliferative retinopathy，branch retinal vein occlusion",
            "suspected glaucoma，white vessel",
            *(0, 1, 0, 0, 0, 0, 0, 1),
        ),
    )


def aptos(folder: Path) -> None:
    images(folder / "train_images", "000c1434d8d7.png", "001639a390f0.png")
    images(folder / "test_images", "0005cfc8afb6.png")
    table(folder / "train.csv", ("id_code", "diagnosis"), ("000c1434d8d7", 2), ("001639a390f0", 4))
    table(folder / "test.csv", ("id_code",), ("0005cfc8afb6",))


def messidor2(folder: Path) -> None:
    images(folder / "IMAGES", "20051020_43808_0100_PP.png", "20051020_43832_0100_PP.png", "IM000300.JPG")
    lines(
        folder / "messidor-2.csv",
        ["left;right", "20051020_43808_0100_PP.png;20051020_43832_0100_PP.png", "IM000300.JPG;IM000301.JPG"],
    )
    table(
        folder / "messidor_data.csv",
        ("image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable"),
        ("20051020_43808_0100_PP.png", "0.0", "0.0", 1),
        ("20051020_43832_0100_PP.png", "", "", 0),
        ("IM000300.jpg", "4.0", "1.0", 1),
    )


def midrc_downstream(folder: Path) -> None:
    views = ("XR Chest AP", "Portable XR Chest AP single view")
    for name, view in (("MIDRC_XR", views[0]), ("MIDRC_XR_Portable", views[1])):
        for split in ("Train", "Val", "Test"):
            image = f"/npz/{name}_{split}.npz"
            path = folder / image.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, image=np.zeros((4, 4), np.uint8))
            table(
                folder / "All_csv_downstream" / f"{name}_{split}.csv",
                ("ImageID", "study_description_0", "loinc_long_common_name_0"),
                (image, "a description", view),
            )


def chestxray14(folder: Path) -> None:
    images(folder / "images_001" / "images", "00000001_000.png", "00000001_001.png", "00000002_000.png")
    images(folder / "images_002" / "images", "00000003_000.png")
    table(
        folder / "Data_Entry_2017_v2020.csv",
        ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "View Position"),
        ("00000001_000.png", "Cardiomegaly|Pleural_Thickening", 0, 1, 57, "PA"),
        ("00000001_001.png", "No Finding", 1, 1, 58, "PA"),
        ("00000002_000.png", "Hernia", 0, 2, 80, "AP"),
        ("00000003_000.png", "Mass", 0, 3, 74, "PA"),
    )
    lines(folder / "train_val_list.txt", ["00000001_000.png", "00000001_001.png"])
    lines(folder / "test_list.txt", ["00000002_000.png"])


def chexpert(folder: Path) -> None:
    labels = [
        "No Finding",
        "Enlarged Cardiomediastinum",
        "Cardiomegaly",
        "Lung Opacity",
        "Lung Lesion",
        "Edema",
        "Consolidation",
        "Pneumonia",
        "Atelectasis",
        "Pneumothorax",
        "Pleural Effusion",
        "Pleural Other",
        "Fracture",
        "Support Devices",
    ]
    root = folder / "CheXpert-v1.0-small"
    for split, patient in (("train", "patient00001"), ("valid", "patient64541")):
        place = f"{split}/{patient}/study1/view1_frontal.jpg"
        images((root / place).parent, "view1_frontal.jpg")
        values = {"Edema": "1.0", "Pneumonia": "-1.0", "Fracture": "0.0"}
        table(
            root / f"{split}.csv",
            ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *labels),
            (f"CheXpert-v1.0-small/{place}", "Female", 68, "Frontal", "AP", *(values.get(name, "") for name in labels)),
        )
    images(folder / "chexlocalize/CheXpert/test/patient64741/study1", "view1_frontal.jpg")
    table(
        folder / "chexlocalize/CheXpert/test_labels.csv",
        ("Path", *labels),
        ("test/patient64741/study1/view1_frontal.jpg", *(int(name == "No Finding") for name in labels)),
    )


def covidx(folder: Path) -> None:
    images(folder / "train", "a.png", "b.jpg")
    images(folder / "test", "c.png")
    lines(folder / "train_COVIDx9A.txt", ["3 a.png COVID-19 cohen", "COVID 19 b.jpg normal rsna"])
    lines(folder / "test_COVIDx9A.txt", ["3 c.png pneumonia rsna"])
    lines(folder / "train_COVIDx9B.txt", ["3 a.png positive cohen", "COVID 19 b.jpg negative rsna"])


def covidx_cxr(folder: Path) -> None:
    for split in ("train", "val", "test"):
        images(folder / split, f"{split}.png")
        lines(folder / f"{split}.txt", [f"{split}-1 {split}.png positive ricord"])


def organamnist(folder: Path) -> None:
    arrays: dict[str, np.ndarray] = {}
    for number, split in enumerate(("train", "val", "test")):
        arrays[f"{split}_images"] = np.full((2, 28, 28), number, np.uint8)
        arrays[f"{split}_labels"] = np.array([[number], [10]], np.uint8)
    np.savez_compressed(folder / "organamnist.npz", **arrays)
