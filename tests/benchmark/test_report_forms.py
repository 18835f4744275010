"""Markdown, tables, terminal and page carry the same figures, and text from outside is nothing but text."""

import csv
import html
import io
import json
import re

import pandas as pd
import pytest
from answered import row as answered
from answered import run_of
from oracle import Oracle, pixel_hash

from benchmark.cases.images import open_case_image
from benchmark.paper.rows import paper_change, summarise_row
from benchmark.predictions.answers import answers_of
from benchmark.predictions.batches import Asking
from benchmark.predictions.file import Run, cases_sha256
from benchmark.predictions.scoring import score_cases
from benchmark.report.__main__ import main
from benchmark.report.content import build_report
from benchmark.report.frames import case_table, class_table, write_table
from benchmark.report.html_page import LIMIT, page
from benchmark.report.markdown import markdown
from benchmark.report.number_format import percent, points
from benchmark.report.tables import class_lines, source_lines, total_lines
from benchmark.report.terminal import print_report
from benchmark.report.wording import holding
from benchmark.report.writing import write_report
from benchmark.scorers.scorer import ConstantLetter, Score

EVERYTHING = Asking(rotations=4, views=("letter", "text", "option"))


class Wavering(Oracle):
    """Right about all but every so-manieth case, and mute about every seventh in the words view."""

    def __init__(self, cases, wrong_every: int, name: str) -> None:
        super().__init__(
            {
                (pixel_hash(open_case_image(case)), case.question): case.options[
                    case.answer if number % wrong_every else (case.answer + 1) % 4
                ]
                for number, case in enumerate(cases)
            }
        )
        self.name = name
        self._mute = {pixel_hash(open_case_image(case)) for case in cases[::7]}

    def score(self, asks, views):
        return [
            [
                score._replace(text="I | <b>cannot</b> say") if pixel_hash(ask.image) in self._mute else score
                for score in found
            ]
            for ask, found in zip(asks, super().score(asks, views), strict=True)
        ]


@pytest.fixture(scope="module")
def cases(coloured_cases):
    return coloured_cases(48)


@pytest.fixture(scope="module")
def runs(cases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    made = [
        score_cases(cases, Wavering(cases, every, name), folder / name, EVERYTHING)
        for every, name in ((2, "host"), (5, "graft"))
    ]
    return folder, *made


@pytest.fixture(scope="module")
def report(cases, runs):
    return build_report(cases, runs[2], runs[1], draws=300, paper="llava")


def test_class_table_and_markdown_carry_the_same_figures(report, tmp_path):
    write_table(tmp_path / "per_class", class_table(report))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "per_class.csv").read_text())))
    assert [row["part"] for row in rows] == ["class"] * 6 + ["total"] * 5 + ["source"] * 2
    text = markdown(report)
    for row in rows:
        assert percent(float(row["after_accuracy"])) in text
        assert points(float(row["change"])) in text
    health = next(row for row in rows if row["code"] == "Health")
    assert float(health["before_accuracy"]) == pytest.approx(report.before.classes["Health"].accuracy, abs=1e-6)
    assert (int(health["n"]), int(float(health["fixed"]))) == (8, report.change.classes["Health"].fixed)
    assert health["p_holm"] == ""  # one run a side says nothing about a class
    lines = [*class_lines(report), *total_lines(report), *source_lines(report)]
    for row, line in zip(rows, lines, strict=True):
        for rule, floor in line.floors.items():
            assert float(row[f"floor_{rule}"]) == pytest.approx(floor, abs=1e-6)
            assert percent(floor) in text
    macro = next(row for row in rows if row["name"] == "Macro average")
    assert float(macro["change"]) == pytest.approx(report.change.macro.value, abs=1e-6)
    assert macro["fixed"] == ""
    assert "Research use only, not for diagnosis." in text
    assert "host (before)" in text
    assert "graft (after)" in text
    assert "- case-000, options as ABCD: refusal: <code>I &#124; &lt;b&gt;cannot&lt;/b&gt; say</code>" in text


def test_case_table_holds_every_answer(report, runs, tmp_path):
    paths = write_table(tmp_path / "per_case", case_table(report))
    table, again = pd.read_csv(paths[0]), pd.read_parquet(paths[1])
    assert len(table) == len(again) == 2 * 48 * 4
    assert list(table.columns) == list(again.columns)
    assert again["said"].isna().sum() == 2 * 7 * 4
    rows = again[again["run"] == "after"].set_index(["case", "rotation"])
    for row in runs[2].predictions:
        found = rows.loc[row.case, row.rotation]
        assert (found["answer"], found["chosen"], found["reply"]) == (row.answer, row.chosen, row.text)
        assert found["probability_2"] == pytest.approx(row.probability(2))
        assert pd.isna(found["said"]) if row.said is None else found["said"] == row.said
    accuracy = again[again["rotation"] == 0].groupby("run")["case_expectation"].mean()
    assert accuracy["after"] == pytest.approx(report.after.overall.accuracy)


def test_markdown_has_every_section(report):
    text = markdown(report)
    titles = re.findall(r"^## (.*)$", text, re.M)
    assert titles == [
        "By disease", "Would another seed say so?", "By source of the images", "Does it look at the image?", "Does the answer"
        " hold?",
        "Which disease is taken for which", "How far can its probabilities be believed?", "Beside the published figures",
        "Sample questions", "For a supplement", "How the numbers are made", "What was run",
    ]  # fmt: skip
    published = summarise_row(paper_change("llava").after)
    assert f"| Myopia | 226 | {percent(summarise_row(paper_change('llava').before).classes['Myopia'].value)}" in text
    assert percent(published.classes["Myopia"].value) in text
    assert "on other images and with other options: a reference, not a comparison" in text
    widths = {
        line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("| Letters | as stored")
    }
    assert widths == {10}


def test_terminal_fits_eighty_columns(report, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_report(report)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed
    assert "Inf., ten" in printed
    assert "Research use only" in printed


@pytest.mark.slow
def test_command_line_makes_the_report_again(cases_file, runs, tmp_path, capsys):
    folder, *_ = runs
    given = ["--cases", str(cases_file), "--out", str(tmp_path)]
    assert main(["--after", str(folder / "graft"), *given, "--before", str(folder / "host"), "--paper", "llava"]) == 0
    assert "report.html" in capsys.readouterr().out
    assert "Beside the published figures" in (tmp_path / "report.md").read_text()
    assert main(["--after", str(folder / "graft"), *given, "--paper", "gpt"]) == 1
    assert "no figures for 'gpt'" in capsys.readouterr().err


class Hostile(ConstantLetter):
    def __init__(self) -> None:
        super().__init__("A")
        self.name = "<script>alert(1)</script>&lt;"

    def score(self, asks, views):
        return [
            [Score(score.log_probs, "</script><b>\u2028", score.prompt) for score in scores]
            for scores in super().score(asks, views)
        ]


def test_names_from_outside_are_escaped(cases, tmp_path):
    hostile = [
        case.model_copy(update={"source": "<img src=x>", "question": "Is a < b & c?", "id": f"</script>{case.id}"})
        for case in cases[:24]
    ]
    hostile += [case.model_copy(update={"source": "a|b"}) for case in cases[24:]]
    report = build_report(
        hostile, score_cases(hostile, Hostile(), tmp_path, Asking(views=("letter", "text"))), draws=100
    )
    text = page(report)
    assert "<script>alert" not in text
    assert html.escape("<script>alert(1)</script>&lt;") in text
    assert "<img src=x>" not in text
    assert text.count("</script>") == 3
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert data["questions"][0] == "Is a < b & c?"
    assert data["sides"][0]["reply"][0] == "</script><b>\u2028"
    written = markdown(report)
    assert "| a\\|b |" in written
    assert "&lt;img src=x>" in written
    assert "&lt;script>alert(1)&lt;/script>&amp;lt;" in written
    assert re.findall(r"<(?!/?code>)[A-Za-z/!?][^>]*", written) == []


def test_what_a_spreadsheet_would_run_is_text_in_the_csv_alone(cases, tmp_path):
    starts = ("=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "plain")
    renamed = [
        case.model_copy(update={"source": starts[number % len(starts)], "group": "=1+1"})
        for number, case in enumerate(cases[:28])
    ]
    run = score_cases(renamed, ConstantLetter("A"), tmp_path / "run")
    report = build_report(renamed, Run({**run.header, "model": "=cmd"}, run.predictions), draws=100)
    written = write_report(tmp_path / "report", report)
    csv_names = [f"'{start}".replace("\r", "\n") for start in starts[:6]]
    with written["per_case.csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows[:7]] == [*csv_names, "plain"]
    assert {row["model"] for row in rows} == {"'=cmd"}
    # One name in several sources is several patients, so the source stands before it.
    assert {row["group"] for row in rows} == {f"{name}/=1+1" for name in (*csv_names, "plain")}
    assert not any(row["probability_0"].startswith("'") for row in rows)
    again = pd.read_parquet(written["per_case.parquet"])
    assert again["source"][:7].tolist() == list(starts)
    with written["per_class.csv"].open(newline="") as file:
        names = [row["name"] for row in csv.DictReader(file) if row["part"] == "source"]
    assert set(names) == {*csv_names, "plain"}


def test_names_of_any_length_fit_the_terminal(cases, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    long = "model-" + "x" * 190 + "-v12"
    renamed = [
        case.model_copy(
            update={"source": f"source{number % 2}-" + "y" * 190, "code": "Z" * 200}
            | {"option_codes": tuple("Z" * 200 if code == "DR" else code for code in case.option_codes)}
            if case.code == "DR"
            else {"source": f"source{number % 2}-" + "y" * 190}
        )
        for number, case in enumerate(cases)
    ]
    run = score_cases(renamed, ConstantLetter("A"), tmp_path / "run")
    named = Run({**run.header, "model": f"\x1b[2J{long}"}, run.predictions)
    report = build_report(renamed, named, named, draws=100)
    print_report(report)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "\x1b" not in printed
    assert re.search(r"Z+…Z+ +8 .*0\.0", printed), "the figures stand in their columns"
    assert re.search(r"\?\[2Jmodel-x+…x+-v12", printed.replace("\n", ""))
    assert long in markdown(report)
    assert long in page(report)


def test_ties_and_letter_mass_are_said(cases):
    def made(name: str, tied: int, low: int) -> Run:
        rows = [
            answered(
                case.id,
                letters=[2, 2, 1, 1] if number < tied else [1, 1, 1, 9],
                answer=case.answer,
                code=case.code,
                group=case.group,
                mass=None if number == 47 else 0.25 if number < low else 0.875,
            )
            for number, case in enumerate(cases)
        ]
        return run_of(rows, model=name, cases_sha256=cases_sha256(cases))

    report = build_report(cases, made("after", 23, 9), made("before", 1, 0), draws=100)
    said = holding(report)
    assert "1 of 48 answers of the run before ties between options; each counts as its expectation." in said
    assert "23 of 48 answers of the run after tie between options; each counts as its expectation." in said
    assert f"gives the four letters {percent(0.875)} (median); 9 of 47 answers give them less than half" in said
    alone = holding(build_report(cases, made("after", 0, 0), draws=100))
    assert "tie between" not in alone
    assert "0 of 47 answers give them less than half" in alone
    tied = case_table(report)
    tied = tied[(tied["run"] == "after") & tied["tied"]]
    assert len(tied) == 23
    assert tied["chosen"].isna().all()
    assert not tied["correct"].any()
    assert sorted(tied["case_expectation"].unique()) == [0, 0.5]
    assert tied["letter_mass"].iloc[0] == 0.25
    right = sum(case.answer < 2 for case in cases[:23]) / 2 + sum(case.answer == 3 for case in cases[23:])
    assert report.after.overall.correct == right
    assert report.change.flips.broken == sum(case.answer == 3 for case in cases[1:23])


def test_a_page_over_cases_that_share_images_holds_each_once(cases, runs, tmp_path):
    report = build_report(cases, runs[2], draws=100)
    text = page(report)
    images = json.loads(re.search(r'id="images">(.*?)</script>', text, re.S)[1])
    assert len(images) == len({case.image_sha256 for case in cases}) == 48
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in images)
    assert len(text.encode()) < LIMIT
    assert write_report(tmp_path, report)["report.html"].read_text() == text


@pytest.mark.slow
def test_answers_read_from_words_alone(cases, runs, tmp_path):
    run = score_cases(cases, Wavering(cases, 5, "words"), tmp_path, Asking(views=("text",)))
    report = build_report(cases, run, draws=100)
    assert report.after.calibration is None
    assert "believed" not in markdown(report)
    assert 'id="calibration"' not in page(report)
    assert answers_of(run).primary.view == "text"
    assert report.after.overall.correct == sum(row.chosen == row.answer for row in run.predictions)
    compared = build_report(cases, run, score_cases(cases, Wavering(cases, 5, "l"), tmp_path / "l"), draws=100)
    assert compared.notes == ("Not read in the same views: letter before, text after.",)
