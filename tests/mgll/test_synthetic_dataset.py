"""The data set: same bytes again and with more processes, valid manifest, groups whole, texts of the labels, no overwriting."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgll.formats import read_header
from mgll.manifest.records import SCHEMA, levels, read_manifest
from mgll.synthetic import draw_eye, generate
from mgll.synthetic.__main__ import main
from mgll.synthetic.compatibility import check_labels
from mgll.synthetic.dataset import plan
from mgll.synthetic.sampling import class_weights
from mgll.vocabulary.diseases import NEGATIVE_OF, benchmark_classes, diseases, true_codes
from mgll.vocabulary.label_texts import DISEASE, EXPLANATION, describe_labels

COUNT, SIZE = 41, 40


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def eyes(tmp_path_factory) -> Path:
    return generate(tmp_path_factory.mktemp("eyes") / "data", COUNT, seed=5, size=SIZE, progress=False)


def test_the_manifest_is_valid_and_complete(eyes):
    records = read_manifest(eyes)
    assert len(records) == COUNT
    assert levels(records) == (DISEASE, EXPLANATION)
    assert read_header(eyes, SCHEMA)["seed"] == 5
    for record in records:
        with Image.open(record.image) as image:
            assert image.size == (SIZE, SIZE)
            assert image.format == "JPEG"
        assert record.source == "synthetic"
        check_labels(record.labels)
        assert record.texts == describe_labels(record.labels, complete=True)
        assert set(record.labels) <= set(diseases())
    assert len({record.image for record in records}) == COUNT


def test_texts_say_what_the_labels_say(eyes):
    for record in read_manifest(eyes):
        sick = set(record.labels) - {"Health", *NEGATIVE_OF}
        assert record.texts[DISEASE][0] == ("abnormal" if sick else "normal")
        for label in set(record.labels) - {"Health"}:
            assert diseases()[label].name in record.texts[DISEASE]
            assert diseases()[label].explanation in record.texts[EXPLANATION]


@pytest.mark.slow
def test_same_seed_same_bytes_with_any_number_of_processes(eyes, tmp_path):
    again = generate(tmp_path / "again", COUNT, seed=5, size=SIZE, workers=2, progress=False)
    assert digest(again.parent) == digest(eyes.parent)
    other = generate(tmp_path / "other", 3, seed=6, size=SIZE, progress=False)
    shared = set(digest(other.parent).values()) & set(digest(eyes.parent).values())
    assert not shared


def test_a_picture_of_the_data_set_is_the_eye_of_its_plan(eyes):
    first = next(iter(plan(COUNT, 5, class_weights())))
    drawn = draw_eye(first.labels, first.seed, SIZE, laterality=first.laterality, person=first.person_seed)
    with Image.open(eyes.parent / "images" / f"{first.name}.jpg") as saved:
        gap = np.abs(np.asarray(saved).astype(int) - np.asarray(drawn).astype(int))
    assert gap.mean() < 4, "JPEG loses little"


def test_a_person_is_in_one_split_and_every_split_has_its_share():
    plans = list(plan(3000, 0, class_weights()))
    split_of: dict[str, str] = {}
    for eye in plans:
        assert split_of.setdefault(eye.person, eye.split) == eye.split
    share = {split: n / len(split_of) for split, n in Counter(split_of.values()).items()}
    assert share == pytest.approx({"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.01)
    assert Counter(eye.laterality for eye in plans) == {"left": 1500, "right": 1500}
    assert len({eye.name for eye in plans}) == len({eye.seed for eye in plans}) == 3000


def test_every_class_is_in_every_split_of_a_small_data_set():
    for split in ("train", "test"):
        held = Counter(
            code
            for eye in plan(1000, 1, class_weights())
            if eye.split == split
            for code in {label for label in true_codes(eye.labels) if label not in NEGATIVE_OF} | set(eye.labels)
        )
        for disease in benchmark_classes():
            assert held[disease.code] >= 2, (split, disease.code)


def test_both_eyes_of_a_person_often_agree():
    pairs: dict[str, list[tuple[str, ...]]] = {}
    for eye in plan(800, 2, class_weights()):
        pairs.setdefault(eye.person, []).append(eye.labels)
    agree = [bool(set(a) & set(b)) for a, b in pairs.values()]
    assert 0.25 < np.mean(agree) < 0.75


def test_a_second_run_leaves_the_folder_and_another_data_set_is_refused(eyes):
    before = {path: path.stat().st_mtime_ns for path in eyes.parent.rglob("*")}
    assert generate(eyes.parent, COUNT, seed=5, size=SIZE, progress=False) == eyes
    assert {path: path.stat().st_mtime_ns for path in eyes.parent.rglob("*")} == before
    with pytest.raises(FileExistsError, match="another data set"):
        generate(eyes.parent, COUNT, seed=6, size=SIZE, progress=False)
    assert {path: path.stat().st_mtime_ns for path in eyes.parent.rglob("*")} == before


def test_a_killed_run_is_taken_up_again(tmp_path):
    folder = tmp_path / "killed"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "000000_left.jpg").write_bytes(b"half a pict")
    taken_up = read_manifest(generate(folder, 4, seed=5, size=SIZE, progress=False))
    assert len(taken_up) == 4
    whole = generate(tmp_path / "whole", 4, seed=5, size=SIZE, progress=False)
    assert digest(folder) == digest(whole.parent)


def test_lost_images_are_named(tmp_path):
    manifest = generate(tmp_path / "data", 2, seed=1, size=SIZE, progress=False)
    next((tmp_path / "data" / "images").iterdir()).unlink()
    with pytest.raises(FileExistsError, match="1 of its images"):
        generate(tmp_path / "data", 2, seed=1, size=SIZE, progress=False)
    manifest.unlink()
    generate(tmp_path / "data", 2, seed=1, size=SIZE, progress=False)
    assert len(list((tmp_path / "data" / "images").iterdir())) == 2


def test_no_image_is_refused(tmp_path):
    with pytest.raises(ValueError, match="count is 0"):
        generate(tmp_path, 0, seed=0)


def test_command_line(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "d"), "--count", "3", "--size", "40", "--workers", "1"]) == 0
    assert len(read_manifest(tmp_path / "d" / "manifest.jsonl")) == 3
    sheet = tmp_path / "sheet.png"
    assert main(["--contact-sheet", str(sheet), "--classes", "CSR", "--columns", "2", "--size", "40"]) == 0
    with Image.open(sheet) as image:
        assert image.height == 56
    assert main(["--contact-sheet", str(sheet), "--classes", "Scurvy"]) == 1
    assert "Scurvy" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([])
