"""A stage of a recipe is made once, and again when something that went into it has changed."""

import json
from pathlib import Path

import pytest

from mgll.files import write_text
from mgll.settings import ObjectiveSettings
from mgll.stage import begin_stage, is_made, stage


@pytest.fixture
def made(tmp_path) -> list[str]:
    """What was made so far."""
    write_text(tmp_path / "in.txt", "words")
    (tmp_path / "folder").mkdir()
    write_text(tmp_path / "folder" / "weights", "1")
    return []


def make(folder: Path, made: list[str], **changed: object) -> str:
    inputs = {"file": folder / "in.txt", "folder": folder / "folder", "epochs": 3, "objective": ObjectiveSettings()}
    out = folder / "out"

    def write() -> None:
        made.append("out")
        write_text(out / "result", str(len(made)))

    return (stage(out, {**inputs, **changed}, write) / "result").read_text()


def test_what_is_made_of_the_same_is_kept_whatever_its_name_and_date(tmp_path, made):
    make(tmp_path, made)
    write_text(tmp_path / "in.txt", "words")
    (tmp_path / "other.txt").write_text("words")
    assert make(tmp_path, made, file=tmp_path / "other.txt") == "1"
    assert made == ["out"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 4}, "epochs: 3 -> 4"),
        ({"objective": ObjectiveSettings(sclip=0.3)}, "objective.sclip: 1.0 -> 0.3"),
        ({"seed": 1}, "seed: None -> 1"),
    ],
)
def test_what_changed_is_said_and_made_again(tmp_path, made, capsys, change, said):
    make(tmp_path, made)
    assert make(tmp_path, made, **change) == "2"
    assert f"out is made again: {said}\n" in capsys.readouterr().out


def test_content_counts_of_files_and_folders(tmp_path, made, capsys):
    make(tmp_path, made)
    write_text(tmp_path / "in.txt", "other words")
    assert make(tmp_path, made) == "2"
    write_text(tmp_path / "folder" / "weights", "2")
    assert make(tmp_path, made) == "3"
    said = capsys.readouterr().out
    assert "out is made again: file: another content\n" in said
    assert "out is made again: folder: another content\n" in said


def test_an_unfinished_stage_goes_on_with_what_it_has(tmp_path, made):
    def stopped() -> None:
        write_text(tmp_path / "out" / "checkpoint", "half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage(tmp_path / "out", {"epochs": 3}, stopped)
    assert not is_made(tmp_path / "out", {"epochs": 3})
    assert begin_stage(tmp_path / "out", {"epochs": 3})
    assert (tmp_path / "out" / "checkpoint").is_file()
    assert begin_stage(tmp_path / "out", {"epochs": 4})
    assert not (tmp_path / "out").exists()


def test_what_nobody_vouches_for_is_neither_taken_nor_deleted(tmp_path, made):
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"out is there, but out.stage.json, .* is not: remove"):
        make(tmp_path, made)
    (tmp_path / "out.stage.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"out.stage.json: cannot say whose a stage the folder holds"):
        make(tmp_path, made)
    assert (tmp_path / "out").is_dir()


def test_a_stage_that_was_deleted_is_made_again(tmp_path, made):
    make(tmp_path, made)
    (tmp_path / "out" / "result").unlink()
    (tmp_path / "out").rmdir()
    assert make(tmp_path, made) == "2"
    assert json.loads((tmp_path / "out.stage.json").read_text())["finished"]
