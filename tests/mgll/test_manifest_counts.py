"""`describe` counts images, groups, levels, texts and classes, and says which images are not there."""

import pytest

from mgll.manifest.__main__ import _main
from mgll.manifest.counts import count
from mgll.manifest.records import Record, write_manifest

ROWS = (
    ("a", "train", "p1", {"disease": ("Drusen", "abnormal"), "explanation": ("Yellow deposits",)}, ("Drusen",), "X"),
    ("b", "train", "p1", {"disease": ("Drusen", "Cataract")}, ("Drusen", "Cataract"), "X"),
    ("c", "test", "p2", {"disease": ()}, (), "Y"),
)


@pytest.fixture
def records():
    return [
        Record(image=f"{image}.png", split=split, group=group, texts=texts, labels=labels, source=source)
        for image, split, group, texts, labels, source in ROWS
    ]


def test_counts(records):
    counts = count(records)
    assert counts.total == 3
    assert counts.images == {("X", "train"): 2, ("Y", "test"): 1}
    assert {split: len(groups) for split, groups in counts.groups.items()} == {"train": 1, "test": 1}
    assert {name: (level.images, dict(level.texts)) for name, level in counts.levels.items()} == {
        "disease": (2, {"Drusen": 2, "abnormal": 1, "Cataract": 1}),
        "explanation": (1, {"Yellow deposits": 1}),
    }
    assert counts.labels == {("Drusen", "train"): 2, ("Cataract", "train"): 1}
    assert (counts.multi_label, counts.unlabelled, counts.textless) == (1, 1, 1)
    assert not counts.contradictions


def test_contradictions_are_counted_by_what_contradicts_what(records, tmp_path, capsys):
    said = {"disease": ("Glaucoma",)}
    graded = [record.model_copy(update={"labels": ("Health",), "texts": said}) for record in records]
    assert count(graded).contradictions == {"Health beside Glaucoma": 3}
    write_manifest(tmp_path / "m.jsonl", graded)
    _main(["describe", str(tmp_path / "m.jsonl")])
    assert "Health beside Glaucoma" in capsys.readouterr().out


def test_describe_prints_them_and_names_missing_images(records, tmp_path, capsys):
    write_manifest(tmp_path / "m.jsonl", records)
    (tmp_path / "a.png").touch()
    assert _main(["describe", str(tmp_path / "m.jsonl")]) == 1
    out = "".join(capsys.readouterr())
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line.startswith("│")]
    assert ["train", "2", "66.7%", "1", "2.00"] in rows
    assert ["X", "2", "2", "-", "-", "-", "1"] in rows
    assert ["disease", "2", "1 (33.3%)", "4", "3", "2.00"] in rows
    assert ["Drusen", "2", "2", "0", "0"] in rows
    assert "3 images of 2 groups; 33.3% with several classes" in out.replace("\n", " ")
    assert "2 of 3 images are not there, the first: " in out
