"""Manifests say which line and which field is wrong; files are written whole or not at all."""

import json
import os
import pickle
import socket
from pathlib import Path

import launches
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mgll.commandline import parse_settings
from mgll.files import atomic_path, write_text
from mgll.formats import FormatError
from mgll.manifest.__main__ import _main
from mgll.manifest.records import SCHEMA, Record, levels, read_manifest, write_manifest
from mgll.settings import PretrainSettings
from mllm_adapters.settings import FinetuneSettings

CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"


def record(**changes) -> dict:
    fields = {"image": "a.png", "split": "train", "group": "p1", "texts": {"disease": ["drusen"]}}
    return {**fields, **changes}


def write_lines(path, *rows) -> None:
    lines = [json.dumps({"schema": SCHEMA}), *(row if isinstance(row, str) else json.dumps(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_manifest_survives_writing_and_reading(tmp_path):
    records = [Record(**record(texts={"disease": ["a", "b"], "explanation": ["c"]}, labels=["DR"], source="X"))]
    write_manifest(tmp_path / "m.jsonl", records, made_by="a test")
    found = read_manifest(tmp_path / "m.jsonl")
    assert list(found) == [records[0].model_copy(update={"image": str(tmp_path / "a.png")})]
    assert found[0].caption == "a, b, c"
    assert levels(found) == ("disease", "explanation")


def test_records_are_parsed_when_asked_for(tmp_path):
    write_lines(
        tmp_path / "m.jsonl",
        *(record(image=f"{n}.png", split="val" if n % 3 else "train", group=f"{n}") for n in range(9)),
    )
    found = read_manifest(tmp_path / "m.jsonl", "val")
    names = [f"{n}.png" for n in range(9) if n % 3]
    assert [Path(row.image).name for row in found] == names
    assert [Path(row.image).name for row in found[1:4]] == names[1:4]
    assert Path(found[-1].image).name == names[-1]
    assert found[0] == found[0]
    with pytest.raises(IndexError):
        found[6]
    assert list(pickle.loads(pickle.dumps(found))) == list(found)  # a worker process that is spawned gets them so


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (record(split="training"), "line 3: field split: .*'train', 'val' or 'test'.*'training'"),
        (record(texts={"disease": "drusen"}), "line 3: field texts.disease"),
        (record(texts={"disease": [" "]}), "line 3: field texts: .*level 'disease' holds an empty text"),
        (record(image=""), "line 3: field image"),
        (record(grup="p2"), "line 3: field grup: Extra inputs"),
        ({"image": "a.png"}, "line 3: field split: Field required; field group: Field required"),
        ('{"image": "a.png"', "line 3: .*Invalid JSON"),
        (record(split="test"), "line 3: field group: 'p1' is in split 'test' here and in 'train' above"),
    ],
)
def test_a_wrong_row_is_named_by_line_and_field(tmp_path, row, message):
    write_lines(tmp_path / "m.jsonl", record(), row)
    with pytest.raises(FormatError, match=message) as error:
        read_manifest(tmp_path / "m.jsonl")
    assert error.value.line == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: the first line must be a header"),
        (b'{"schema": "mgll.cases/1"}\n', "found 'mgll.cases/1'"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "not UTF-8 text"),
        (b'{"schema": "mgll.manifest/1"}\n', "no image"),
        (b"[1, 2]\n", "must be a header"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, content, message):
    (tmp_path / "m.jsonl").write_bytes(content)
    with pytest.raises(FormatError, match=message):
        read_manifest(tmp_path / "m.jsonl")


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_hostile_bytes_never_crash_without_a_message(tmp_path, content):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"schema": "mgll.manifest/1"}\n' + content)
    with pytest.raises(FormatError, match=r"m\.jsonl"):
        read_manifest(path)


def test_a_manifest_with_fewer_lines_than_its_header_says_is_refused(tmp_path):
    path = tmp_path / "manifest.jsonl"
    record = Record(image="a.png", split="train", group="1", texts={})
    write_manifest(path, [record] * 3, count=3)
    assert len(read_manifest(path)) == 3
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(FormatError, match="field count: the header says 3 lines, found 2"):
        read_manifest(path)


def test_validate_reports_missing_images(tmp_path, capsys):
    write_lines(tmp_path / "m.jsonl", record())
    assert _main(["validate", str(tmp_path / "m.jsonl")]) == 1
    assert "1 of 1 images are not there" in "".join(capsys.readouterr())
    (tmp_path / "a.png").touch()
    assert _main(["validate", str(tmp_path / "m.jsonl")]) == 0


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "f.txt", "old")

    def interrupted() -> None:
        with atomic_path(tmp_path / "f.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["f.txt"]
    assert (tmp_path / "f.txt").read_text() == "old"


KILLED = """
import os, sys
from pathlib import Path
from mgll.files import atomic_path
with atomic_path(Path(sys.argv[1]) / "d") as folder, atomic_path(Path(sys.argv[1]) / "f") as file:
    folder.mkdir()
    (folder / "half").touch()
    file.touch()
    os.kill(os.getpid(), 9)
"""


def test_what_a_kill_left_is_removed_by_the_next_process_that_writes_there_and_nothing_else(tmp_path, capfd):
    assert launches.run(["-c", KILLED, str(tmp_path)]).returncode == -9
    left = {path.name for path in tmp_path.iterdir()}
    others = {"f.tmp", ".f.tmp", ".f.12.tmp", f".f.{socket.gethostname()}-{os.getppid()}.tmp", ".f.elsewhere-1.tmp"}
    for name in others:
        (tmp_path / name).touch()
    assert len(left) == 2
    write_text(tmp_path / "g", "whole")
    assert {path.name for path in tmp_path.iterdir()} == others | {"g"}
    said = capfd.readouterr().err
    assert said.count("was killed while it wrote this") == 2
    assert all(name in said for name in left)


def test_a_file_never_takes_the_place_of_a_folder(tmp_path):
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "eye.jpg").touch()
    with pytest.raises(IsADirectoryError, match="this is a folder"):
        write_text(tmp_path / "photographs", "a manifest")
    assert [path.name for path in tmp_path.rglob("*")] == ["photographs", "eye.jpg"]


def test_a_directory_is_replaced_whole(tmp_path):
    for content in ("one", "two"):
        with atomic_path(tmp_path / "d") as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_flags_override_yaml_and_yaml_overrides_defaults(tmp_path):
    (tmp_path / "c.yaml").write_text("epochs: 3\nbetas: [0.8, 0.9]\nobjective_settings: {sclip: 0.7}\n")
    settings = parse_settings(PretrainSettings, "", ["--config", str(tmp_path / "c.yaml"), "--epochs", "5"])
    assert (settings.epochs, settings.betas) == (5, (0.8, 0.9))
    assert settings.resolved_objective.sclip == 0.7
    assert settings.batch_size == PretrainSettings().batch_size


def test_every_recipe_parses(monkeypatch):
    """Those of the ablations are in test_ablations.py."""
    monkeypatch.syspath_prepend(str(CONFIGS.parent))
    from compare_towers import CompareSettings
    from objective_study import StudySettings
    from table2 import Table2Settings

    comparison = ["--manifest", "m.jsonl", "--out", "out"]
    read = {
        "paper_fundus.yaml": (PretrainSettings, []),
        "demo.yaml": (CompareSettings, comparison),
        "compare_fundus.yaml": (CompareSettings, comparison),
        "null_fundus.yaml": (CompareSettings, comparison),
        "finetune_demo.yaml": (FinetuneSettings, []),
        "fundus_tower.yaml": (PretrainSettings, []),
        "objective_study.yaml": (StudySettings, comparison),
        "objective_rates.yaml": (StudySettings, comparison),
        "table2.yaml": (Table2Settings, comparison),
        "table2_toy.yaml": (Table2Settings, comparison),
        "laboratory.yaml": (Table2Settings, comparison),
        "laboratory_small.yaml": (Table2Settings, comparison),
    }
    assert {path.name for path in CONFIGS.glob("*.yaml")} == read.keys()
    for name, (kind, flags) in read.items():
        assert parse_settings(kind, "", [*flags, "--config", str(CONFIGS / name)])


def test_no_flag_at_all_gives_the_defaults():
    assert parse_settings(PretrainSettings, "", []) == PretrainSettings()


def test_a_wrong_flag_names_itself(capsys):
    with pytest.raises(SystemExit):
        parse_settings(PretrainSettings, "", ["--objective", "clap"])
    assert "--objective" in capsys.readouterr().err
