"""Groups whose photographs match become one group in one split; strangers and equal names in two data sets do not."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from mgll.files import sha256
from mgll.formats import FormatError
from mgll.images.fundus_hash import THRESHOLD
from mgll.images.looks import look
from mgll.manifest.__main__ import _main
from mgll.manifest.grouping import group_photographs
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.manifest.shards import pack
from mgll.readers.fundus_folder import read_fundus_folder
from mgll.synthetic import draw_eye


def eye(seed: int) -> Image.Image:
    return draw_eye(("Health",), seed, 256, laterality="left", person=seed)


def jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eyes 0 to 7 and copies of 0 to 4, each of a patient of its own; and images that must join nobody."""
    folder = tmp_path_factory.mktemp("grouping")
    images = {f"eye{number}.png": eye(number) for number in range(8)}
    for name, image in images.items():
        image.save(folder / name)
    (folder / "file0.png").write_bytes((folder / "eye0.png").read_bytes())
    images["eye1.png"].save(folder / "pixels1.bmp")
    (folder / "half2.jpg").write_bytes(jpeg(images["eye2.png"], 50))
    (folder / "mirrored2.jpg").write_bytes(jpeg(ImageOps.mirror(images["eye2.png"]), 80))
    (folder / "half3.jpg").write_bytes(jpeg(images["eye3.png"], 50))
    Image.new("RGB", (64, 64)).save(folder / "black1.png")
    Image.new("RGB", (64, 64)).save(folder / "black2.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    rows = [
        ("eye0.png", "train", "a", "S"),
        ("file0.png", "test", "b", "S"),
        ("eye1.png", "test", "c", "S"),
        ("pixels1.bmp", "val", "d", "T"),
        ("eye2.png", "test", "e", "S"),
        ("half2.jpg", "test", "f", "T"),
        ("mirrored2.jpg", "train", "g", "S"),
        ("eye3.png", "test", "h", "S"),
        ("half3.jpg", "test", "h", "S"),  # the same patient already
        ("eye4.png", "train", "1", "S"),
        ("eye5.png", "test", "1", "T"),  # patient 1 of another data set
        ("eye6.png", "test", "f", "T"),  # goes with half2.jpg
        ("eye7.png", "val", "i", "S"),
        ("black1.png", "train", "j", "S"),
        ("black2.png", "test", "k", "S"),
        ("broken.jpg", "test", "l", "S"),
    ]
    records = [
        Record(image=image, split=split, group=group, texts={}, source=source) for image, split, group, source in rows
    ]
    write_manifest(folder / "manifest.jsonl", records, made_from="a test")
    return folder / "manifest.jsonl"


def test_matching_groups_become_one_and_leave_test(manifest, tmp_path, capsys):
    out = tmp_path / "elsewhere" / "new.jsonl"
    assert _main(["group", str(manifest), "--out", str(out), "--pairs", str(tmp_path / "pairs.csv")]) == 0
    found = {Path(record.image).name: (record.group, record.split) for record in read_manifest(out)}
    merged = {
        "eye0.png": ("merged:S/a", "train"),
        "file0.png": ("merged:S/a", "train"),
        "eye1.png": ("merged:S/c", "val"),  # val and test alone: the image leaves test
        "pixels1.bmp": ("merged:S/c", "val"),
        "eye2.png": ("merged:S/e", "train"),
        "half2.jpg": ("merged:S/e", "train"),
        "mirrored2.jpg": ("merged:S/e", "train"),
        "eye6.png": ("merged:S/e", "train"),
    }
    as_before = {
        Path(record.image).name: (record.group, record.split)
        for record in read_manifest(manifest)
        if Path(record.image).name not in merged
    }
    assert found == merged | as_before
    header = json.loads(out.read_text(encoding="utf-8").splitlines()[0])
    assert header["made_from"] == "a test"
    assert header["grouped"] == {
        "manifest_sha256": sha256(manifest),
        "threshold": THRESHOLD,
        "groups": 7,
        "into": 3,
        "moved": {"test to train": 4, "test to val": 1},
        "not_compared": 1,
    }
    shown = capsys.readouterr().out
    assert "7 groups became 3, the largest of 3" in shown
    assert "4 images moved from test to train" in shown
    assert "1 images can't be read" in shown
    pairs = pd.read_csv(tmp_path / "pairs.csv")
    assert pairs.sign.value_counts().to_dict() == {"same file": 1, "same pixels": 1, "same photograph": 3}
    assert set(pairs.columns) == {
        "sign",
        "bits",
        *(f"{which}{field}" for which in ("", "other_") for field in ("image", "source", "group", "split")),
    }
    assert pairs.bits.dropna().le(THRESHOLD).all()
    assert all(Path(record.image).is_file() for record in read_manifest(out))


def test_grouping_again_changes_nothing_and_a_new_copy_joins_the_merged_group(manifest, tmp_path):
    once = group_photographs(read_manifest(manifest)).records
    again = group_photographs(once)
    assert again.records == once
    assert not again.matches
    (tmp_path / "more.jpg").write_bytes(jpeg(eye(1), 60))
    copy = Record(image=str(tmp_path / "more.jpg"), split="train", group="m", texts={}, source="U")
    more = group_photographs([*once, copy])
    assert more.records[-1].group == "merged:S/c"
    assert more.merged == {"merged:S/c": [("", "merged:S/c"), ("U", "m")]}
    assert {record.split for record in more.records if record.group == "merged:S/c"} == {"train"}


def test_images_in_shards_are_compared_too(manifest, tmp_path):
    whole = [record for record in read_manifest(manifest) if "broken" not in record.image]
    write_manifest(tmp_path / "manifest.jsonl", whole)
    packed = pack(tmp_path / "manifest.jsonl", tmp_path / "shards")
    assert _main(["group", str(packed), "--out", str(tmp_path / "shards" / "new.jsonl")]) == 0
    assert sum(record.group.startswith("merged:") for record in read_manifest(tmp_path / "shards" / "new.jsonl")) == 8


def test_a_group_in_two_splits_is_refused_within_a_source_alone(tmp_path):
    records = [
        Record(image=f"{n}.png", split=split, group=group, texts={}, source=source)
        for n, (split, group, source) in enumerate([("train", "1", "S"), ("test", "1", "T")])
    ]
    write_manifest(tmp_path / "two.jsonl", records)
    assert len(read_manifest(tmp_path / "two.jsonl")) == 2
    write_manifest(tmp_path / "one.jsonl", [record.model_copy(update={"source": "S"}) for record in records])
    with pytest.raises(FormatError, match="field group: '1' is in split 'test' here and in 'train' above"):
        read_manifest(tmp_path / "one.jsonl")
    merged = [record.model_copy(update={"group": "merged:S/1"}) for record in records]
    write_manifest(tmp_path / "merged.jsonl", merged)
    with pytest.raises(FormatError, match="'merged:S/1' is in split 'test'"):
        read_manifest(tmp_path / "merged.jsonl")


def test_a_manifest_without_any_readable_image_is_refused(tmp_path, capsys):
    write_manifest(tmp_path / "m.jsonl", [Record(image="no.png", split="train", group="1", texts={})])
    assert _main(["group", str(tmp_path / "m.jsonl"), "--out", str(tmp_path / "new.jsonl")]) == 1
    assert "none of its images can be read, the first:" in "".join(capsys.readouterr())
    assert not (tmp_path / "new.jsonl").exists()


def test_the_digests_of_an_image_tell_file_pixels_and_look_apart(tmp_path):
    eye(0).save(tmp_path / "a.png")
    eye(0).save(tmp_path / "a.bmp")
    (tmp_path / "a.jpg").write_bytes(jpeg(eye(0), 50))
    png, bmp, half = (look(str(tmp_path / f"a.{ending}")) for ending in ("png", "bmp", "jpg"))
    assert png.file == sha256(tmp_path / "a.png") != bmp.file
    assert png.pixels == bmp.pixels != half.pixels
    assert np.array_equal(png.hashes, bmp.hashes)
    assert not np.array_equal(png.hashes, half.hashes)


def test_the_patients_of_two_public_sets_are_fewer_than_their_names(fundus_folder):
    """CSDI and retina601 as they are shared: groups by file name, which the photographs contradict."""
    records = [record for record in read_fundus_folder(fundus_folder)[0] if record.source in ("CSDI", "retina601")]
    grouping = group_photographs(records)
    assert not grouping.unreadable
    pairs = {
        (Path(grouping.before[match.first].image).stem, Path(grouping.before[match.second].image).stem)
        for match in grouping.matches
    }
    assert ("csdi_030", "csdi_036") in pairs
    left = [(old.split, new.split) for old, new in zip(records, grouping.records, strict=True) if old != new]
    assert ("test", "train") in left
    assert not group_photographs(grouping.records).matches
