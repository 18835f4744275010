"""WebDataset shards of this package and of others become manifests that point into them."""

import io
import json
import tarfile

import pytest
from PIL import Image

from mgll.images.preprocessing import open_image
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.manifest.shards import pack
from mgll.readers.webdataset_shards import main


@pytest.fixture
def shard(tmp_path):
    """Three samples in somebody else's form: a list, a nested field, a text file, a pickle that nobody may open."""
    picture = io.BytesIO()
    Image.new("RGB", (5, 4), (200, 10, 10)).save(picture, format="JPEG")
    rows = [
        {"labels": ["Drusen", "Cataract"], "meta": {"patient": 17, "part": "train"}},
        {"labels": [], "meta": {"patient": "18", "part": "val"}},
    ]
    with tarfile.open(tmp_path / "shard-0.tar", "w") as tar:

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

        for number, row in enumerate(rows):
            add(f"eyes/{number}.jpg", picture.getvalue())
            add(f"eyes/{number}.json", json.dumps(row).encode())
            add(f"eyes/{number}.txt", f" Report {number}; clear. ".encode())
        add("eyes/2.pkl", b"cos\nsystem\n(S'touch owned'\ntR.")
    return tmp_path / "shard-0.tar"


FLAGS = (
    "--level",
    "disease=labels",
    "--level",
    "report=txt",
    "--group",
    "meta.patient",
    "--split",
    "meta.part",
    "--labels",
    "labels",
)


def read(shard, *flags):
    out = shard.with_name("m.jsonl")
    return list(read_manifest(out)) if main([str(shard), "--out", str(out), *flags]) == 0 else None


def test_fields_of_foreign_shards_are_chosen_by_flags(shard, capsys):
    first, second = read(shard, *FLAGS)
    assert first.texts == {"disease": ("Drusen", "Cataract"), "report": ("Report 0; clear.",)}
    assert second.texts == {"report": ("Report 1; clear.",)}
    assert (first.group, first.split, first.labels, second.split) == ("17", "train", ("Drusen", "Cataract"), "val")
    assert open_image(first.image).size == (5, 4)
    told = capsys.readouterr().out
    assert "left out: a sample without an image: 1" in told
    assert "ignored .pkl file" in told


def test_shards_of_this_package_need_no_flags(tmp_path):
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png")
    record = Record(
        image="a.png", split="test", group="p", texts={"disease": ("Drusen",)}, labels=("Drusen",), source="S"
    )
    write_manifest(tmp_path / "m.jsonl", [record])
    packed = pack(tmp_path / "m.jsonl", tmp_path / "shards")
    assert read(tmp_path / "shards" / "000000.tar") == list(read_manifest(packed))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--level", "disease=label"), "no sample has label; they have key, labels, meta.part, meta.patient, txt"),
        (
            ("--level", "disease=labels", "--group", "labels"),
            "sample eyes/0: field labels: expected one value, found 2",
        ),
        ((), "sample eyes/0: "),
    ],
)
def test_what_is_wrong_is_named(shard, capsys, flags, message):
    assert read(shard, *flags) is None
    assert message in "".join(capsys.readouterr())


def test_numbers_and_nothing_in_json_are_read_as_in_tables(tmp_path, capsys):
    rows = [
        {"DR": 1, "HR": 0.0, "grade": 2, "patient": None},
        {"DR": -1, "HR": True, "grade": None, "patient": float("nan")},
    ]
    picture = io.BytesIO()
    Image.new("RGB", (5, 4)).save(picture, format="JPEG")
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for number, row in enumerate(rows):
            for ending, data in ((".jpg", picture.getvalue()), (".json", json.dumps(row).encode())):
                info = tarfile.TarInfo(f"{number}{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    shard = tmp_path / "s.tar"
    first, second = read(shard, "--vocabulary", "rfmid", "--one-hot", "disease", "--group", "patient")
    assert (first.labels, second.labels) == (("DR",), ("Hemorrhagic Retinopathy",))
    assert first.group != second.group
    out = "".join(capsys.readouterr())
    assert "patient is missing: a group of its own, though some may show one patient: 2 images" in out
    assert "DR is -1 (uncertain): left out: 1 images" in out
    assert read(shard, "--level", "disease=grade") is None
    assert "sample /0: field grade: '2' is a value, not words" in "".join(capsys.readouterr())
    graded = read(shard, "--level", "disease=grade", "--vocabulary", "grade=icdr")
    assert [record.labels for record in graded] == [("Moderate NPDR",), ()]


def test_the_split_does_not_depend_on_where_the_shard_lies_or_how_its_path_is_typed(
    shard, tmp_path, monkeypatch, capsys
):
    def groups(path) -> list[tuple[str, str]]:
        out = tmp_path / "m.jsonl"
        assert main([str(path), "--out", str(out), "--level", "report=txt"]) == 0
        return [(record.group, record.split) for record in read_manifest(out)]

    first = groups(shard)
    assert len({group for group, _ in first}) == 2
    monkeypatch.chdir(shard.parent)
    assert groups("shard-0.tar") == groups("./shard-0.tar") == first
    (tmp_path / "moved").mkdir()
    assert groups(shard.rename(tmp_path / "moved" / "shard-0.tar")) == first
    capsys.readouterr()
    assert main(["moved/shard-0.tar", f"{tmp_path}/moved/shard-0.tar", "--out", "m.jsonl", "--level", "report=txt"])
    assert "is named twice" in "".join(capsys.readouterr())
