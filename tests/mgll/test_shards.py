"""Shards give training what the folder gave, byte for byte, and are packed in one go or in several."""

import tarfile

import numpy as np
import pytest
from PIL import Image

from mgll.formats import FormatError
from mgll.images.files import opened
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.manifest.shards import _main, pack, read_shard


def image_bytes(path):
    with opened(path) as (_, file):
        return file.read()


@pytest.fixture
def manifest(tmp_path):
    records = []
    for index in range(10):
        name = f"{index}.{'png' if index % 2 else 'jpg'}"
        Image.fromarray(np.full((4, 4, 3), 20 * index, np.uint8)).save(tmp_path / name)
        texts = {"disease": ("Drusen", f"text {index}")}
        records.append(Record(image=name, split="train", group=f"p{index // 2}", texts=texts, labels=("Drusen",)))
    write_manifest(tmp_path / "m.jsonl", records)
    return tmp_path / "m.jsonl"


def test_shards_hold_the_same_bytes_and_records(manifest, tmp_path):
    packed = read_manifest(pack(manifest, tmp_path / "shards", images=4))
    plain = {record.group + record.texts["disease"][1]: record for record in read_manifest(manifest)}
    assert sorted(path.name for path in (tmp_path / "shards").glob("*.tar")) == [
        "000000.tar",
        "000001.tar",
        "000002.tar",
    ]
    assert len(packed) == 10
    for record in packed:
        own = plain.pop(record.group + record.texts["disease"][1])
        assert image_bytes(record.image) == image_bytes(own.image)
        assert record.model_copy(update={"image": own.image}) == own


def test_the_same_arguments_give_the_same_bytes_and_a_stopped_run_goes_on(manifest, tmp_path):
    pack(manifest, tmp_path / "a", images=4)
    pack(manifest, tmp_path / "b", images=4)
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    (tmp_path / "b" / "000001.tar").unlink()
    (tmp_path / "b" / "manifest.jsonl").unlink()
    pack(manifest, tmp_path / "b", images=4)
    assert {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()} == before


def test_shards_of_images_that_changed_are_packed_anew_and_told(manifest, tmp_path, capsys):
    pack(manifest, tmp_path / "shards", images=4)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.tar")}
    pack(manifest, tmp_path / "shards", images=4)
    assert "packed anew" not in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.tar")} == before
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "3.png")
    packed = read_manifest(pack(manifest, tmp_path / "shards", images=4))
    assert "1 of 3 shards are packed anew, because images have changed since" in capsys.readouterr().out
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.tar")}
    assert sum(after[name] != before[name] for name in before) == 1
    (mine,) = [record for record in packed if record.texts["disease"][1] == "text 3"]
    assert image_bytes(mine.image) == (tmp_path / "3.png").read_bytes()


def test_shards_can_be_packed_anew_from_shards(manifest, tmp_path):
    first = pack(manifest, tmp_path / "a", images=4)
    again = read_manifest(pack(first, tmp_path / "b", images=3, seed=1))
    assert {image_bytes(record.image) for record in again} == {image_bytes(r.image) for r in read_manifest(manifest)}


def test_a_folder_with_something_else_is_left_alone(manifest, tmp_path, capsys):
    pack(manifest, tmp_path / "shards", images=4)
    assert _main([str(manifest), "--out", str(tmp_path / "shards"), "--images", "5"]) == 1
    assert "holds shards made of something else" in "".join(capsys.readouterr())
    assert _main([str(manifest), "--out", str(tmp_path)]) == 1
    assert "is not empty" in "".join(capsys.readouterr())


def test_samples_are_files_with_one_key(tmp_path):
    for name in ("1.json", "1.a.jpg", "1.b.png", "2.cls", "2.pkl", "2.txt", "x.png"):
        (tmp_path / name).write_text(name)
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name in ("1.json", "1.a.jpg", "1.b.png", "2.pkl", "2.txt", "2.cls"):
            tar.add(tmp_path / name, name)
        tar.add(tmp_path / "x.png", "3.png")
        tar.addfile(tarfile.TarInfo("dir"))
        link = tarfile.TarInfo("4.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    one, two, three, *_ = read_shard(tmp_path / "s.tar")
    assert (one.image.name, one.texts, one.ignored) == ("1.a.jpg", {".json": b"1.json"}, {".png file": 1})
    assert (two.image, two.texts, two.ignored) == (None, {".txt": b"2.txt"}, {".pkl file": 1, ".cls file": 1})
    assert three.image.read() == b"x.png"
    *_, last = read_shard(tmp_path / "s.tar")
    assert (last.key, last.image, last.ignored) == ("/4", None, {"link": 1})


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_a_shard_that_is_cut_short_is_named(manifest, tmp_path, keep):
    pack(manifest, tmp_path / "shards", images=10)
    shard = tmp_path / "shards" / "000000.tar"
    with tarfile.open(shard) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + last.size
    shard.write_bytes(shard.read_bytes()[: int(keep * end)])
    with pytest.raises(FormatError, match=r"000000\.tar"):
        list(read_shard(shard))


def test_compressed_and_missing_shards_say_so(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(FormatError, match="not a whole, uncompressed tar file"):
        list(read_shard(tmp_path / "s.tar"))
    with pytest.raises(FormatError, match="no such shard"):
        list(read_shard(tmp_path / "t.tar"))
