"""What a report gives a paper: Excel, LaTeX, figures, the methods paragraph, curves of training, samples."""

import json
import re
from dataclasses import asdict, replace
from xml.etree import ElementTree

import pandas as pd
import pytest
from answered import run_about
from openpyxl import load_workbook

from benchmark.predictions.file import Run, write_run
from benchmark.report.all_tables import all_tables
from benchmark.report.case_browser import outcomes
from benchmark.report.content import build_report
from benchmark.report.figure_files import figures, write_figures
from benchmark.report.html_page import page
from benchmark.report.latex import escaped, latex
from benchmark.report.methods import methods_text
from benchmark.report.number_format import percent
from benchmark.report.samples import samples
from benchmark.report.tables import Cell, Table
from benchmark.report.workbook import write_workbook
from benchmark.report.writing import report_runs, with_origins
from mgll.formats import FormatError
from mllm_adapters.contract.finetune_record import FinetuneRecord
from mllm_adapters.contract.graft_record import Donor, Graft
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.settings import FinetuneSettings

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def cases(coloured_cases):
    return coloured_cases(48)


@pytest.fixture(scope="module")
def report(cases):
    host, graft = run_about(cases, "host", 2), run_about(cases, "<graft> & 50_%", 5)
    return build_report(cases, graft, host, Run({**graft.header, "images": "blank"}, graft.predictions), draws=200)


def test_numbers_are_numbers_in_excel_and_text_is_never_a_formula(tmp_path):
    rows = (
        (Cell("=1+1"), Cell("61.3\u202f%", "56.9 to 65.6")),
        (Cell("+1"), Cell("−6.3", "=2")),
        (Cell("a\x00b"), Cell("1,200")),
    )
    long = "a name: of [more] than 31 letters / that goes on"
    frame = pd.DataFrame({"text": ["=A1", "b"], "number": [0.5, float("nan")]})
    write_workbook(tmp_path / "t.xlsx", {long: Table(("Name", "share"), rows), f"{long}!": frame})
    book = load_workbook(tmp_path / "t.xlsx")
    first, second = book.worksheets
    assert [[cell.value for cell in row] for row in first] == [
        ["Name", "share", "share, 95 % interval"],
        ["=1+1", 0.613, "56.9 to 65.6"],
        ["+1", -6.3, "=2"],
        ["a?b", 1200, None],
    ]
    assert {cell.data_type for row in first for cell in row} == {"s", "n"}  # no "f"
    assert first["B2"].number_format == "0.0%"
    assert [[cell.value for cell in row] for row in second] == [["text", "number"], ["=A1", 0.5], ["b", None]]
    assert second["A2"].data_type == "s"
    assert len({first.title.lower(), second.title.lower()}) == 2
    assert max(map(len, book.sheetnames)) <= 31


def test_excel_and_latex_hold_every_table_of_the_page(report, tmp_path):
    tables = all_tables(report)
    assert list(tables) == [
        "Results by class", "Runs", "Results by source", "Controls", "Ways to read the answers", "Letters chosen",
        "Commonest confusions", "Calibration", "Sample questions",
    ]  # fmt: skip
    write_workbook(tmp_path / "tables.xlsx", tables)
    sheet = load_workbook(tmp_path / "tables.xlsx")["Results by class"]
    heads = [cell.value for cell in sheet[1]]
    overall = next(row for row in sheet.iter_rows(values_only=True) if row[0] == "Overall")
    assert overall[heads.index("after")] == pytest.approx(report.after.overall.accuracy, abs=5e-4)
    for name, table in tables.items():
        text = latex(table, name)
        lines = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len(lines) == 1 + len(table.rows)
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(table.columns) - 1}
        assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert r"$<$graft$>$ \& 50\_\%" in latex(tables["Controls"], "c")


def test_what_latex_reads_as_a_command_is_text():
    assert escaped(r"\input{x} 5% & #1_a^~ $") == (
        r"\textbackslash{}input\{x\} 5\% \& \#1\_a\textasciicircum{}\textasciitilde{} \$"
    )


def test_every_figure_is_an_svg_of_its_own_and_a_pdf(report, tmp_path):
    drawn = figures(report)
    assert {"overview", "by-class", "confusions-before", "confusions-after", "calibration"} == set(drawn)
    for svg in drawn.values():
        root = ElementTree.fromstring(svg)
        assert root.tag == f"{SVG}svg"
        assert root[0].tag == f"{SVG}title"
        assert root[0].text
        assert "var(" not in svg
        assert "class=" not in svg
    assert "<graft>" not in drawn["overview"]
    dots = ElementTree.fromstring(drawn["overview"]).findall(f"{SVG}circle")
    strokes = [line.get("x1") for line in ElementTree.fromstring(drawn["overview"]).findall(f"{SVG}line")]
    left, right = float(strokes[0]), float(strokes[4])
    shares = [run.overall.accuracy for run in (report.before, report.after)]
    assert [(float(dot.get("cx")) - left) / (right - left) for dot in dots[:2]] == pytest.approx(shares, abs=1e-3)
    assert len(strokes) == 5 + 1 + 6 + 3 + 3  # ticks, guessing, lines, intervals, rules
    pytest.importorskip("vl_convert")
    paths = write_figures(tmp_path, {"a: b/c": drawn["overview"], "a: b?c": drawn["by-class"]})
    assert [path.suffix for path in paths] == [".svg", ".pdf"] * 2
    assert len({path.name for path in paths}) == 4
    assert all(path.read_bytes().startswith(b"%PDF") for path in paths[1::2])


def test_the_methods_paragraph_has_the_numbers(report, cases):
    text = methods_text(report)
    assert f"about 48 fundus photographs of {report.after.groups} patients or eyes" in text
    assert f"host answered {percent(report.before.overall.accuracy)} correctly" in text
    assert "How it was made is not recorded beside its run." in text
    assert "With one seed a side, nothing is claimed about the methods." in text
    frequency = report.floors.of(report.questions.overall())["frequency"]
    assert f"class frequency {percent(frequency)}" in text
    seeds = [run_about(cases, "graft", every, model_sha256=str(every)) for every in (3, 4, 5)]
    method = build_report(cases, seeds, [run_about(cases, "host", 2, model_sha256=str(n)) for n in (6, 7)], draws=100)
    said = methods_text(method)
    assert "in 3 runs that differ in their seeds" in said
    assert "take seeds and patients as random" in said
    assert "bootstrap" not in said


@pytest.fixture
def made(tmp_path, cases):
    """A run whose folders say how its model was made, started from `tmp_path` with relative paths."""
    model, graft, scores = (tmp_path / "runs" / name for name in ("tuned", "graft", "scores"))
    for folder in (model, graft, scores):
        folder.mkdir(parents=True)
    settings = {"objective": "mgll", "encoder": "vit-tiny", "epochs": 3, "batch_size": 8, "seed": 7}
    origin = {"settings": settings, "images_seen": {"images": 1234}, "curve": "step loss\n1 4\n2 3\n3 2.5"}
    record = Graft(
        schema="mgll.graft/1", host="llava", source="host", donor=Donor(path="towers/mgll.ckpt", sha256="0", origin=origin),
        settings=GraftSettings(), features=4, placeholders=4, tower=None, loads_in="transformers",
        connector_needs_training=True, tensors=(), files=(), provenance={},
    )  # fmt: skip
    (graft / "graft.json").write_text(record.model_dump_json(by_alias=True))
    tuned = FinetuneRecord(
        schema="mgll.finetune/1", host="llava", base="../graft", base_sha256={}, settings=asdict(FinetuneSettings(seed=5)),
        questions={"count": 2400, "images": 900}, trained={"language_model": 0, "connector": 41216, "tower": 0},
        supervised=(1, 2, 3, 4), provenance={},
    )  # fmt: skip
    (model / "finetune.json").write_text(tuned.model_dump_json(by_alias=True))
    lines = [{"step": step, "loss": 1 / step, "accuracy": 0.5, "learning_rate": {"connector": 0.1}} for step in (1, 2)]
    (model / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_run(scores / "predictions.jsonl", run_about(cases, "graft", 3))
    (scores / "run.json").write_text(json.dumps({"settings": {"model": "runs/tuned", "out": "runs/scores"}}))
    return scores


def test_how_a_model_was_made_and_trained_is_found_beside_its_run(report, made, tmp_path):
    with_made = with_origins(report, [made])
    ((origin,),) = with_made.origins.values()
    assert origin.missing == ()
    assert {kind: dict(curve.terms) for kind, curve in origin.curves.items()} == {
        "pretraining": {"loss": (4.0, 3.0, 2.5)},
        "fine-tuning": {"loss": (1.0, 0.5), "accuracy": (0.5, 0.5)},
    }
    text = methods_text(with_made)
    assert "It is the host llava with the vision tower towers/mgll.ckpt in the place of its own." in text
    assert (
        "The tower was pretrained on 1,234 images (objective mgll, encoder vit-tiny, 3 epochs, batches of 8, seed 7)."
        in text
    )
    assert "It was fine-tuned on 2,400 questions about 900 images" in text
    assert "(seed 5); trained were 41,216 parameters of the connector." in text
    drawn = figures(with_made)
    assert {"training-pretraining, after", "training-fine-tuning, after"} <= drawn.keys()
    lines = ElementTree.fromstring(drawn["training-fine-tuning, after"]).findall(f"{SVG}polyline")
    assert len(lines) == 2
    html = page(with_made, with_images=False)
    assert "<figcaption>pretraining, after<small>3 steps; loss 4 to 2.5</small>" in html
    (made.parent / "tuned" / "finetune.json").write_text("{}")
    (broken,) = with_origins(report, [made]).origins["after"]
    assert "finetune.json" in broken.missing[0]
    assert "could not be read" in methods_text(with_origins(report, [made]))
    (made / "run.json").unlink()
    (unknown,) = with_origins(report, [made]).origins["after"]
    assert (unknown.curves, unknown.missing) == ({}, ())


def test_samples_are_drawn_and_not_chosen(report):
    numbers = list(samples(report))
    assert numbers == list(samples(report))
    found = outcomes(report)
    assert [found[number] for number in numbers] == [
        name for name in dict.fromkeys(map(found.__getitem__, numbers)) for _ in (0, 1)
    ]
    assert any(list(samples(report, seed)) != numbers for seed in (1, 2, 3))


def test_a_page_without_images_and_with_a_link_to_maps(cases, made, tmp_path):
    out, maps = tmp_path / "report", tmp_path / "maps" / "maps.html"
    with pytest.raises(FormatError, match="no such page of maps"):
        report_runs(out, cases, made, maps=maps)
    assert not out.exists()
    maps.parent.mkdir()
    maps.write_text("maps")
    report_runs(out, cases, made, images=False, maps=maps)
    text = (out / "report.html").read_text()
    assert 'href="../maps/maps.html"' in text
    assert "data:image" not in text
    assert "The page holds no images, as was asked." in text
    again = replace(build_report(cases, run_about(cases, "graft", 3)), origins={})
    assert "data:image/jpeg" in page(again)
