"""The VLMEvalKit export: read back as that kit reads it, with pandas' defaults and plain Pillow."""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmark.cases.case import Case, read_cases, write_cases
from benchmark.harnesses.vlmevalkit import _main, write_tsv
from mgll.files import sha256
from mgll.images.preprocessing import open_image
from mgll.vocabulary.questions import LETTERS


def as_the_kit_reads(path: Path) -> pd.DataFrame:
    """The table with each image decoded: a short entry is the index of the row that holds it."""
    table = pd.read_csv(path, sep="\t")
    entries = {str(index): str(entry) for index, entry in zip(table["index"], table["image"], strict=True)}
    entries = {index: entry if len(entry) > 64 else entries[entry] for index, entry in entries.items()}
    decoded = [Image.open(io.BytesIO(base64.b64decode(entries[str(index)]))).convert("RGB") for index in table["index"]]
    return table.assign(image=decoded)


def test_questions_and_images_come_back(cases_file, tmp_path):
    out = tmp_path / "Eyes.tsv"
    assert write_tsv(cases_file, out) == 48
    table, cases = as_the_kit_reads(out), read_cases(cases_file)
    assert list(table.columns) == [
        "index", "image", "id", "question", "A", "B", "C", "D", "answer", "category", "l2-category", "split",
    ]  # fmt: skip
    assert list(table["index"]) == list(range(48))
    for row, case in zip(table.to_dict("records"), cases, strict=True):
        assert (row["id"], row["question"]) == (case.id, case.question)
        assert tuple(row[letter] for letter in LETTERS) == case.options
        assert row[row["answer"]] == case.options[case.answer]
        assert (row["category"], row["l2-category"], row["split"]) == (case.code, case.source, "all")
        assert np.array_equal(row["image"], open_image(case.image))


def awkward_cases(folder: Path) -> list[Case]:
    """A photograph turned by EXIF, one with 16 bits, one with a palette, each asked about twice; texts with tabs and quotes."""
    rng = np.random.default_rng(0)
    turned = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    Image.fromarray(rng.integers(0, 60_000, (30, 40), dtype=np.uint16)).save(folder / "deep.png")
    turned.convert("P").save(folder / "palette.png")
    return [
        Case(
            id=f"{name}-{number}",
            image=str(folder / name),
            image_sha256=sha256(folder / name),
            group="1",
            source="",
            question='Which "finding"\tis it?\nOne only.',
            options=("left\tside", 'the "right"', "  both ", "neither, really"),
            option_codes=("L", "R", "LR", "-"),
            answer=number,
            code=("L", "R")[number],
        )
        for number in range(2)
        for name in ("turned.jpg", "deep.png", "palette.png")
    ]


def test_awkward_images_and_texts_come_back_too(tmp_path):
    write_cases(tmp_path / "cases.jsonl", awkward_cases(tmp_path), split="val")
    write_tsv(tmp_path / "cases.jsonl", tmp_path / "Eyes.tsv")
    table = as_the_kit_reads(tmp_path / "Eyes.tsv")
    for row, case in zip(table.to_dict("records"), read_cases(tmp_path / "cases.jsonl"), strict=True):
        assert np.array_equal(row["image"], open_image(case.image))
        assert row["question"] == case.question
        assert tuple(row[letter] for letter in LETTERS) == case.options
        assert (row["split"], row["l2-category"]) == ("val", "not stated")
    raw = pd.read_csv(tmp_path / "Eyes.tsv", sep="\t")["image"]
    assert list(raw[3:].astype(int)) == [0, 1, 2]  # each image is stored once


def test_paths_are_absolute_and_refused_where_other_pixels_would_be_seen(cases_file, tmp_path, capsys):
    assert _main([str(cases_file), "--out", str(tmp_path / "Eyes.tsv"), "--images", "paths"]) == 0
    table = pd.read_csv(tmp_path / "Eyes.tsv", sep="\t")
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in table["image_path"])
    write_cases(tmp_path / "cases.jsonl", awkward_cases(tmp_path))
    assert _main([str(tmp_path / "cases.jsonl"), "--out", str(tmp_path / "More.tsv"), "--images", "paths"]) == 1
    assert "embed the images" in capsys.readouterr().err
    assert not (tmp_path / "More.tsv").exists()


@pytest.mark.parametrize("text", ["None", "NA", "nan", "null", "007"])
def test_what_the_kit_would_misread_is_refused(tmp_path, text):
    cases = awkward_cases(tmp_path)
    options = [case.model_copy(update={"options": (text, "one", "two", "three")}) for case in cases]
    write_cases(tmp_path / "cases.jsonl", options)
    with pytest.raises(ValueError, match=f"A: VLMEvalKit would read '{text}' as"):
        write_tsv(tmp_path / "cases.jsonl", tmp_path / "Eyes.tsv")
    assert not (tmp_path / "Eyes.tsv").exists()


def test_names_that_change_the_scoring_and_changed_images_are_refused(cases_file, tmp_path):
    with pytest.raises(ValueError, match="'circular' in its name"):
        write_tsv(cases_file, tmp_path / "Fundus_Circular.tsv")
    cases = awkward_cases(tmp_path)
    write_cases(tmp_path / "cases.jsonl", cases)
    (tmp_path / "turned.jpg").write_bytes(b"other")
    with pytest.raises(ValueError, match="has changed"):
        write_tsv(tmp_path / "cases.jsonl", tmp_path / "Eyes.tsv")
