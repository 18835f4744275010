"""Overlap with a pretraining manifest: copies are found by file, pixels, look and patient, and strangers are not."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance, ImageOps

from benchmark.cases.__main__ import _main
from benchmark.cases.case import SCHEMA, Case, read_cases, write_cases
from benchmark.cases.overlap import OverlapCheck, OverlapError, find_overlaps
from benchmark.fundus_hash.calibration import copy_bits, plain_hashes, stranger_bits
from mgll.encoders.vision import vision_encoder
from mgll.files import sha256
from mgll.formats import read_header
from mgll.images.fundus_hash import CROPS, MIRRORED_CROPS, THRESHOLD, distances, fundus_hashes, near_pairs
from mgll.images.looks import look_at
from mgll.images.preprocessing import Preprocessing, open_image
from mgll.manifest.__main__ import _main as manifest_main
from mgll.manifest.grouping import group_manifest, group_photographs
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.readers.fundus_folder import read_fundus_folder
from mgll.synthetic import draw_eye, generate
from mgll.tower.file import save_tower
from mgll.tower.seen import rows_of, save_seen


def eye(seed: int, *labels: str) -> Image.Image:
    return draw_eye(labels or ("Health",), seed, 256, laterality="left", person=seed)


def case_of(path: Path, number: int, group: str) -> Case:
    return Case(
        id=str(number),
        image=str(path),
        image_sha256=sha256(path),
        group=group,
        source="S",
        question="What diagnosis is most likely?",
        options=("Health", "Drusen", "Glaucoma", "Cataract"),
        option_codes=("Health", "Drusen", "Glaucoma", "Cataract"),
        answer=number % 4,
        code=("Health", "Drusen", "Glaucoma", "Cataract")[number % 4],
    )


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Cases about eyes 0 to 7; a manifest of strangers and of copies of 1 to 5; 6 shares its patient, 7 is in its test split."""
    folder = tmp_path_factory.mktemp("overlap")
    pictures = [eye(seed) for seed in range(20)]
    for number in range(8):
        pictures[number].save(folder / f"asked{number}.png")
    shutil.copy(folder / "asked1.png", folder / "file.png")
    pictures[2].save(folder / "pixels.bmp")
    ImageEnhance.Brightness(pictures[3]).enhance(0.8).resize((200, 200)).save(folder / "darker.jpg", quality=80)
    pictures[4].crop((10, 10, 246, 246)).save(folder / "cropped.jpg", quality=80)
    ImageOps.mirror(pictures[5]).save(folder / "mirrored.jpg", quality=80)
    for number in range(8, 20):
        pictures[number].save(folder / f"stranger{number}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    Image.new("RGB", (64, 64)).save(folder / "black.png")
    names = ["file.png", "pixels.bmp", "darker.jpg", "cropped.jpg", "mirrored.jpg", "broken.jpg", "black.png"]
    records = [
        Record(image=name, split="train", group=f"copy{number}", texts={}, source="S")
        for number, name in enumerate(names)
    ]
    records += [
        Record(
            image=f"stranger{number}.png",
            split="train",
            group="patient6" if number == 19 else f"patient{number}",
            texts={},
            # The same name in another data set is another patient.
            source="T" if number == 8 else "S",
        )
        for number in range(8, 20)
    ]
    records[7] = records[7].model_copy(update={"group": "patient0"})
    records.append(Record(image="asked7.png", split="test", group="patient7", texts={}, source="S"))
    write_manifest(folder / "manifest.jsonl", records)
    cases = [case_of(folder / f"asked{number}.png", number, f"patient{number}") for number in range(8)]
    write_cases(folder / "cases.jsonl", cases)
    return folder / "cases.jsonl", folder / "manifest.jsonl"


def test_each_copy_is_found_by_its_surest_sign_and_nothing_else(seen):
    folder = seen[0].parent
    cases = [case_of(folder / f"asked{number}.png", number, f"patient{number}") for number in range(8)]
    overlaps, unreadable = find_overlaps(cases, read_manifest(seen[1], "train"))
    assert [(overlap.kind, Path(overlap.image).name, Path(overlap.seen).name) for overlap in overlaps[:2]] == [
        ("same file", "asked1.png", "file.png"),
        ("same pixels", "asked2.png", "pixels.bmp"),
    ]
    assert {(overlap.kind, Path(overlap.image).name, Path(overlap.seen).name) for overlap in overlaps[2:]} == {
        ("same photograph", "asked3.png", "darker.jpg"),
        ("same photograph", "asked4.png", "cropped.jpg"),
        ("same photograph", "asked5.png", "mirrored.jpg"),
        ("same patient", "asked6.png", "stranger19.png"),
    }
    assert all(overlap.bits <= THRESHOLD for overlap in overlaps if overlap.kind == "same photograph")
    assert len(unreadable) == 1
    assert "broken.jpg" in unreadable[0]


def test_validate_fails_and_writes_the_pairs(seen, tmp_path, capsys):
    command = ["validate", str(seen[0]), "--pretraining", str(seen[1])]
    assert _main([*command, "--pairs", str(tmp_path / "pairs.csv")]) == 1
    shown = capsys.readouterr().out
    assert "6 of 8 images asked about were seen" in shown
    assert "same photograph: 3 pairs" in shown
    assert "1 of its images can't be read" in shown
    pairs = pd.read_csv(tmp_path / "pairs.csv")
    assert list(pairs.columns) == ["kind", "image", "seen", "bits"]
    assert len(pairs) == 6
    assert _main([*command, "--pretraining-split", "test"]) == 1
    assert "same file: 1 pairs" in capsys.readouterr().out


def test_validate_passes_where_nothing_was_seen(seen, tmp_path, capsys):
    strangers = [record for record in read_manifest(seen[1], "train") if record.group == "patient12"]
    write_manifest(tmp_path / "manifest.jsonl", strangers)
    assert _main(["validate", str(seen[0]), "--pretraining", str(tmp_path / "manifest.jsonl")]) == 0
    assert "0 of 8 images asked about were seen" in capsys.readouterr().out


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 24 test eyes of four classes, of which 0 to 2 are in training too: as a file, as JPEG 50 and mirrored."""
    folder = tmp_path_factory.mktemp("leaky")
    classes = ["Health", "Drusen", "Glaucoma", "Cataract"]
    records = []
    for number in range(24):
        eye(number).save(folder / f"{number}.png")
        records.append(
            Record(
                image=f"{number}.png",
                split="test",
                group=f"p{number}",
                texts={},
                labels=(classes[number % 4],),
                source="S",
            )
        )
    shutil.copy(folder / "0.png", folder / "copy0.png")
    eye(1).save(folder / "copy1.jpg", quality=50)
    ImageOps.mirror(eye(2)).save(folder / "copy2.jpg", quality=80)
    for seed, name in ((0, "copy0.png"), (1, "copy1.jpg"), (2, "copy2.jpg"), (30, "stranger.png")):
        if name == "stranger.png":
            eye(seed).save(folder / name)
        records.append(
            Record(image=name, split="train", group=f"other{seed}", texts={}, labels=("Health",), source="S")
        )
    write_manifest(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


def build_command(manifest: Path, out: Path, *more: str) -> list[str]:
    return ["build", "--manifest", str(manifest), "--out", str(out), "--count", "24", "--min-images", "3", *more]


def test_building_refuses_images_that_the_manifest_trains_on(leaky, tmp_path, capsys):
    out = tmp_path / "cases.jsonl"
    assert _main(build_command(leaky, out)) == 1
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert "3 of 24 images asked about were trained on: 3 in" in said
    assert "(same file 1, same photograph 2); the first," in said
    assert "0.png, is" in said
    assert f"python -m mgll.manifest group {leaky} --out NEW" in said
    assert "--overlap drop" in said
    assert "--overlap keep" in said
    assert not out.exists()
    # the advice works
    assert manifest_main(["group", str(leaky), "--out", str(tmp_path / "new.jsonl")]) == 0
    assert _main(build_command(tmp_path / "new.jsonl", out)) == 0
    assert read_header(out, SCHEMA)["overlap"] == {
        "rule": "refuse",
        "images": 21,
        "found": 0,
        "compared_with": [{"sha256": sha256(tmp_path / "new.jsonl"), "images": 7, "not_compared": 0, "found": {}}],
    }
    assert "None of 21 images was trained on" in out.with_suffix(".md").read_text(encoding="utf-8")


def test_dropped_and_kept_images_are_counted(leaky, tmp_path):
    dropped, kept = tmp_path / "dropped.jsonl", tmp_path / "kept.jsonl"
    assert _main(build_command(leaky, dropped, "--overlap", "drop")) == 0
    assert not {Path(case.image).name for case in read_cases(dropped)} & {"0.png", "1.png", "2.png"}
    found = {
        "sha256": sha256(leaky),
        "images": 4,
        "not_compared": 0,
        "found": {"same file": 1, "same photograph": 2},
    }
    said = read_header(dropped, SCHEMA)["overlap"]
    assert said == {"rule": "drop", "images": 24, "found": 3, "compared_with": [found]}
    assert "3 of the split's 24 images were trained on and left out" in dropped.with_suffix(".md").read_text("utf-8")
    assert _main(build_command(leaky, kept, "--overlap", "keep")) == 0
    assert {Path(case.image).name for case in read_cases(kept)} >= {"0.png", "1.png", "2.png"}
    assert read_header(kept, SCHEMA)["overlap"] == said | {"rule": "keep"}
    card = kept.with_suffix(".md").read_text(encoding="utf-8")
    assert "3 of the 24 images asked about were trained on, and were kept" in card
    assert "same file 1, same photograph 2" in card


def test_other_manifests_are_compared_too_and_each_image_is_looked_at_once(leaky, tmp_path):
    records = [record for record in read_manifest(leaky) if "copy" not in record.image]
    write_manifest(tmp_path / "clean.jsonl", records)
    patient = Record(image=records[-1].image, split="train", group="p5", texts={}, source="S")
    write_manifest(tmp_path / "patient.jsonl", [patient])
    check = OverlapCheck([tmp_path / "clean.jsonl", tmp_path / "patient.jsonl"], "keep")
    # questions to learn are not compared
    compared = {
        split: check.compare(tmp_path / "clean.jsonl", split, read_manifest(tmp_path / "clean.jsonl", split))
        for split in ("train", "test")
    }
    assert compared["train"] == []
    assert [one.counts for one in compared["test"]] == ["", "same patient 1"]  # its own manifest once
    shutil.move(leaky.parent / "5.png", leaky.parent / "away.png")
    again = check.compare(tmp_path / "clean.jsonl", "test", read_manifest(tmp_path / "clean.jsonl", "test"))
    shutil.move(leaky.parent / "away.png", leaky.parent / "5.png")
    assert [one.header() for one in again] == [one.header() for one in compared["test"]]


def test_a_tower_finds_what_its_manifest_finds(leaky, tmp_path, capsys):
    tower = tmp_path / "run" / "mgll.ckpt"
    records = read_manifest(leaky, "train")
    remembered = save_seen(tower, rows_of(look_at(record.image for record in records).values()), "other images")
    save_tower(tower, vision_encoder("vit-nano-16", 32), Preprocessing(size=32), "mean", images_seen=remembered)
    asked = list(read_manifest(leaky, "test"))
    write_manifest(tmp_path / "asked.jsonl", asked)
    out = tmp_path / "cases.jsonl"
    assert _main(build_command(tmp_path / "asked.jsonl", out, "--pretraining", str(tower), "--overlap", "keep")) == 0
    (found,) = read_header(out, SCHEMA)["overlap"]["compared_with"]
    assert found == {
        "sha256": sha256(tower),
        "images": 4,
        "not_compared": 0,
        "found": {"same file": 1, "same photograph": 2},
        "unknown": "other images",
    }
    assert "none; other images" in out.with_suffix(".md").read_text(encoding="utf-8")
    pairs = {}
    for path in (tower, leaky):
        assert _main(["validate", str(out), "--pretraining", str(path), "--pairs", str(tmp_path / "pairs.csv")]) == 1
        table = pd.read_csv(tmp_path / "pairs.csv")
        pairs[path] = sorted(zip(table.kind, table.image, table.bits.fillna(-1), strict=True))
        shown = capsys.readouterr().out
    assert pairs[tower] == pairs[leaky]
    assert "3 of 24 images asked about were seen" in shown
    assert _main(build_command(tmp_path / "asked.jsonl", out, "--pretraining", str(tmp_path / "cases.md"))) == 1
    assert "header" in capsys.readouterr().err


def test_photographs_of_two_public_sets_stand_in_their_training_split(fundus_folder, tmp_path):
    records = [record for record in read_fundus_folder(fundus_folder)[0] if record.source in ("CSDI", "retina601")]
    write_manifest(tmp_path / "manifest.jsonl", records)
    asked = [record for record in records if record.split == "test"]
    (own,) = OverlapCheck(rule="keep").compare(tmp_path / "manifest.jsonl", "test", asked)
    assert {Path(image).stem for image in own.found} >= {"csdi_036", "csdi_037", "ret601_glaucoma_018"}
    assert len(own.found) < 8
    with pytest.raises(OverlapError, match=r"images asked about were trained on.*csdi_03\d\.jpg, is .*same photograph"):
        raise OverlapError([own], len(asked), "manifest.jsonl")
    group_manifest(tmp_path / "manifest.jsonl", tmp_path / "grouped.jsonl")
    left = read_manifest(tmp_path / "grouped.jsonl", "test")
    assert not OverlapCheck().compare(tmp_path / "grouped.jsonl", "test", left)[0].found


def test_grey_images_are_found_by_file_and_pixels_alone(tmp_path):
    """Radiographs: the hash, made for the fundus, would take two patients for one."""
    grey = [eye(number).convert("L") for number in range(3)]
    for number, image in enumerate(grey):
        image.save(tmp_path / f"asked{number}.png")
    shutil.copy(tmp_path / "asked0.png", tmp_path / "file.png")
    grey[1].save(tmp_path / "pixels.bmp")
    grey[2].save(tmp_path / "jpeg.jpg", quality=50)
    cases = [case_of(tmp_path / f"asked{number}.png", number, f"p{number}") for number in range(3)]
    records = [
        Record(image=str(tmp_path / name), split="train", group=name, texts={}, source="S")
        for name in ("file.png", "pixels.bmp", "jpeg.jpg")
    ]
    assert [(overlap.kind, Path(overlap.seen).name) for overlap in find_overlaps(cases, records)[0]] == [
        ("same file", "file.png"),
        ("same pixels", "pixels.bmp"),
    ]


def test_drawn_eyes_are_strangers_to_each_other(tmp_path):
    manifest = generate(tmp_path, 120, seed=3, size=96, workers=1)
    assert not group_photographs(read_manifest(manifest)).matches


def test_an_image_without_structure_has_no_hash():
    assert fundus_hashes(Image.new("RGB", (300, 200))) is None
    assert fundus_hashes(Image.new("RGB", (5, 3), (200, 10, 10))) is None
    assert fundus_hashes(eye(3)).shape == (4, 4)


def test_distances_equal_counting_bit_by_bit():
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 2**63, (number, 4, 4), dtype=np.uint64) for number in (5, 7))
    for row in range(5):
        for column in range(7):
            naive = min(
                sum((int(a) ^ int(b)).bit_count() for a, b in zip(first[row, mine], second[column, its], strict=True))
                for mine, its in CROPS + MIRRORED_CROPS
            )
            assert distances(first, second)[row, column] == naive


def test_near_pairs_are_those_of_all_distances_in_either_order():
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**63, (600, 4, 4), dtype=np.uint64)
    hashes[500:] = hashes[:100] ^ rng.integers(0, 2, (100, 4, 4), dtype=np.uint64)  # within 16 bits, over three blocks
    bits = np.minimum(distances(hashes, hashes), distances(hashes, hashes).T)
    expected = {(row, column) for row, column in zip(*np.nonzero(bits <= THRESHOLD), strict=True) if row < column}
    assert len(expected) == 100
    found = list(near_pairs(hashes))
    assert {(row, column) for row, column, _ in found} == expected
    assert all(bits[row, column] == near for row, column, near in found)
    between = {(row, column + 300) for row, column, _ in near_pairs(hashes[:300], hashes[300:])}
    assert between == {(row, column) for row, column in expected if row < 300 <= column}


@pytest.mark.slow
def test_the_threshold_parts_copies_from_strangers_on_real_photographs(fundus_folder):
    records = read_fundus_folder(fundus_folder)[0]
    chosen = [records[index] for index in np.random.default_rng(5).permutation(len(records))[:500]]
    images = [open_image(record.image) for record in chosen]
    groups = [record.group for record in chosen]
    bits, strangers = stranger_bits(np.stack([fundus_hashes(image) for image in images]), groups)
    assert bits[strangers].min() > THRESHOLD + 4  # of 124,000 pairs
    found = {name: (copies <= THRESHOLD).mean() for name, copies in copy_bits(images[:40]).items()}
    assert found.pop("cropped by 8 %") < 0.9  # what is known not to be found
    assert min(found.values()) > 0.75
    assert np.mean(list(found.values())) > 0.93

    # Plain phash: every threshold that finds half of the cropped copies takes strangers for one photograph.
    plain = copy_bits(images[:40], plain_hashes)
    bits, strangers = stranger_bits(np.stack([plain_hashes(image) for image in images]), groups)
    assert (bits[strangers] <= np.median(plain["cropped by 4 %"])).mean() > 0.01
