"""Shards of photographs scaled down say what was done, can be gone on with, and hide no photograph from those that look for it."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from mgll.formats import read_header
from mgll.images.files import ImageError, image_sha256, opened
from mgll.images.fundus_hash import THRESHOLD, near_pairs
from mgll.images.looks import look
from mgll.images.opening import open_image
from mgll.images.preprocessing import Preprocessing
from mgll.images.resized import Resized, what_was_done
from mgll.manifest.__main__ import _main as manifest_command
from mgll.manifest.records import SCHEMA, Record, read_manifest, write_manifest
from mgll.manifest.shard_writing import Scaling
from mgll.manifest.shards import _main, pack
from mgll.synthetic.drawing import draw_eye
from mgll.tower.features import Squares

SIDE = 192


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Photographs that are large, upright or turned or 16-bit grey, one small one, and one cut short."""
    folder = tmp_path_factory.mktemp("photographs")
    exif = Image.Exif()
    exif[0x0112] = 6
    eyes = [draw_eye(("Health",), seed, 400) for seed in (1, 2)]
    eyes[0].save(folder / "large.jpg", quality=95)
    eyes[1].crop((0, 40, 400, 360)).save(folder / "turned.jpg", quality=95, exif=exif)
    Image.fromarray(np.linspace(0, 60000, 300 * 200).reshape(300, 200).astype(np.uint16)).save(folder / "grey.png")
    eyes[0].resize((SIDE, SIDE)).save(folder / "small.jpg", comment="mgll.resized/1 {}")
    (folder / "cut.jpg").write_bytes((folder / "large.jpg").read_bytes()[:900])
    names = ("large.jpg", "turned.jpg", "grey.png", "small.jpg", "cut.jpg")
    records = [Record(image=name, split="train", group=name, texts={"disease": (name,)}) for name in names]
    write_manifest(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


@pytest.fixture
def shards(manifest, tmp_path):
    return pack(manifest, tmp_path / "shards", images=2, scaling=Scaling(SIDE), processes=1)


def places(shards):
    """The places of the images by the names of their originals."""
    return {record.group: record.image for record in read_manifest(shards)}


def test_large_photographs_are_scaled_down_and_say_of_what_they_were_made(manifest, shards):
    found = places(shards)
    sizes = {name: open_image(found[name]).size for name in found if name != "cut.jpg"}
    assert sizes == {
        "large.jpg": (SIDE, SIDE),
        "turned.jpg": (154, SIDE),
        "grey.png": (128, SIDE),
        "small.jpg": (SIDE,) * 2,
    }
    for name, size in (("large.jpg", (400, 400)), ("turned.jpg", (320, 400))):
        original = manifest.parent / name
        pixels = open_image(original)
        digest = hashlib.sha256(str(pixels.size).encode() + pixels.tobytes()).hexdigest()
        assert what_was_done(open_image(found[name])) == Resized(SIDE, 92, *size, image_sha256(original), digest)
    for name in ("small.jpg", "cut.jpg"):  # byte for byte
        with opened(found[name]) as (_, file):
            assert file.read() == (manifest.parent / name).read_bytes()
    assert read_header(shards, SCHEMA)["scaling"] == {"longest_side": SIDE, "quality": 92}


def test_the_scaled_copy_looks_like_its_original(manifest, shards):
    for name, place in places(shards).items():
        original, copy = look(str(manifest.parent / name)), look(place)
        if isinstance(original, ImageError):
            assert isinstance(copy, ImageError)
            continue
        assert (copy.file, copy.pixels) == (original.file, original.pixels)
        if original.hashes is not None:
            assert list(near_pairs(original.hashes[None], copy.hashes[None], THRESHOLD))


def test_towers_read_the_same_photograph_from_either(manifest, shards):
    rule, found = Preprocessing(size=48), places(shards)
    names = ["large.jpg", "turned.jpg"]
    ours, originals = (Squares(p, rule) for p in ([found[n] for n in names], [str(manifest.parent / n) for n in names]))
    for index in range(2):
        assert (ours[index].int() - originals[index].int()).abs().float().mean() < 2


def test_what_was_done_is_counted_and_described(manifest, tmp_path, capsys):
    command = [str(manifest), "--out", str(tmp_path / "shards"), "--longest-side", str(SIDE), "--quality", "80"]
    assert _main(command) == 0
    said = capsys.readouterr().out
    assert f"3 of 5 images scaled down to {SIDE} px (JPEG quality 80), 1 were no larger and stay as they are" in said
    assert "1 cannot be read and stay as they are, the first: " in said
    assert manifest_command(["describe", str(tmp_path / "shards" / "manifest.jsonl")]) == 0
    assert f"scaled down into shards to {SIDE} px, JPEG quality 80" in capsys.readouterr().out


def test_a_stopped_run_goes_on_and_several_processes_write_the_same_bytes(manifest, shards, tmp_path):
    before = {path.name: path.read_bytes() for path in shards.parent.iterdir()}
    shards.unlink()
    (shards.parent / "000001.tar").unlink()
    pack(manifest, shards.parent, images=2, scaling=Scaling(SIDE), processes=1)
    assert {path.name: path.read_bytes() for path in shards.parent.iterdir()} == before
    pack(manifest, tmp_path / "two", images=2, scaling=Scaling(SIDE), processes=2)
    assert {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()} == before


@pytest.mark.parametrize(
    ("scaling", "changed"),
    [
        (Scaling(SIDE, 80), "scaling.quality: 92 -> 80"),
        (Scaling(96), "scaling.longest_side: 192 -> 96"),
        (None, "scaling"),
    ],
)
def test_a_folder_of_other_shards_is_not_gone_on_with(manifest, shards, scaling, changed):
    with pytest.raises(ValueError, match=changed):
        pack(manifest, shards.parent, images=2, scaling=scaling)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--quality", "90"], "name a --longest-side"),
        (["--longest-side", "0"], "1 to 65500"),
        (["--longest-side", "512", "--quality", "100"], "give 1 to 95"),
    ],
)
def test_bad_sizes_and_qualities_are_refused(manifest, tmp_path, capsys, flags, said):
    with pytest.raises(SystemExit) as ended:
        _main([str(manifest), "--out", str(tmp_path / "shards"), *flags])
    assert ended.value.code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "shards").exists()


def test_shards_of_shards_remember_the_first_original(manifest, shards, tmp_path):
    again = places(pack(shards, tmp_path / "again", scaling=Scaling(64), processes=1))
    done = what_was_done(open_image(again["large.jpg"]))
    assert (done.longest_side, done.width, done.file) == (64, 400, image_sha256(manifest.parent / "large.jpg"))
