"""Reports say what the predictions hold: every figure is computed again here, from the rows, by plain arithmetic."""

import csv
import io
import math
from collections import Counter

import pytest
from scipy.stats import binomtest

from benchmark.case_images import open_case_image
from benchmark.report import build_report, choose_cases, report_runs
from benchmark.report_html import page
from benchmark.report_tables import csv_table, p_value, percent, points
from benchmark.report_text import headline, looking, markdown
from benchmark.scorer import ConstantLetter, Oracle, pixel_hash
from benchmark.scoring import Asking, score_cases
from benchmark.summary import ComparisonError


class Partly(Oracle):
    """Right about all but every so-manieth case."""

    def __init__(self, cases, wrong_every: int, name: str) -> None:
        answers = {
            (pixel_hash(open_case_image(case)), case.question): case.options[
                case.answer if number % wrong_every else (case.answer + 1) % 4
            ]
            for number, case in enumerate(cases)
        }
        super().__init__(answers)
        self.name = name


@pytest.fixture(scope="module")
def cases(coloured_cases):
    return coloured_cases(48)


@pytest.fixture(scope="module")
def runs(cases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    before = score_cases(cases, Partly(cases, 2, "host"), folder / "host")
    after = score_cases(cases, Partly(cases, 5, "graft"), folder / "graft")
    blind = score_cases(cases, Partly(cases, 5, "graft"), folder / "blind", Asking(images="blank"))
    return folder, before, after, blind


@pytest.fixture(scope="module")
def report(cases, runs):
    _, before, after, blind = runs
    return build_report(cases, after, before, blind, draws=500)


def wilson(correct: int, n: int) -> tuple[float, float]:
    z = 1.959963984540054
    centre = (correct + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(correct * (n - correct) / n + z * z / 4)
    return centre - half, centre + half


def test_counts_and_intervals_by_class_and_overall(report, runs):
    _, _, after, blind = runs
    correct = Counter(row.code for row in after.predictions if row.chosen == row.answer)
    n = Counter(row.code for row in after.predictions)
    assert {code: share.n for code, share in report.after.classes.items()} == n
    for code, share in report.after.classes.items():
        assert share.correct == correct[code]
        assert (share.low, share.high) == pytest.approx(wilson(correct[code], n[code]))
    assert report.after.overall.correct == sum(correct.values())
    assert report.after.macro.value == pytest.approx(sum(correct[code] / n[code] for code in n) / len(n))
    ten = [code for code in n if code in ("AMD", "Cataract", "DR", "Glaucoma", "Myopia")]
    assert report.after.ten_class.value == pytest.approx(sum(correct[code] / n[code] for code in ten) / 5)
    assert report.after.groups == 24
    assert report.blind.letters == (48, 0, 0, 0)
    assert report.blind.overall.correct == sum(row.answer == 0 for row in blind.predictions)


def test_the_difference_is_paired(report, runs):
    _, before, after, _ = runs
    pairs = [
        (a.chosen == a.answer, b.chosen == b.answer) for a, b in zip(before.predictions, after.predictions, strict=True)
    ]
    fixed, broken = pairs.count((False, True)), pairs.count((True, False))
    assert (report.change.flips.fixed, report.change.flips.broken) == (fixed, broken)
    assert fixed
    assert broken
    assert report.change.mcnemar.p == pytest.approx(binomtest(fixed, fixed + broken).pvalue)
    assert report.change.overall.value == pytest.approx((fixed - broken) / 48)
    assert report.change.overall.low < report.change.overall.value < report.change.overall.high
    for flips in (report.change.classes, report.change.sources):
        assert sum(item.fixed for item in flips.values()) == fixed
        assert sum(item.broken for item in flips.values()) == broken
    assert report.outcomes == {
        "fixed": fixed,
        "broken": broken,
        "both-wrong": pairs.count((False, False)),
        "both-right": pairs.count((True, True)),
    }


def test_the_floor_is_the_most_frequent_option(report, cases):
    frequency = Counter(case.code for case in cases)
    expected = 0.0
    for case in cases:
        most = max(frequency[code] for code in case.option_codes)
        picked = [code for code in case.option_codes if frequency[code] == most]
        expected += (case.code in picked) / len(picked)
    assert report.floor.overall == pytest.approx(expected / 48)


def test_csv_and_markdown_carry_the_same_figures(report):
    rows = list(csv.DictReader(io.StringIO(csv_table(report))))
    assert [row["part"] for row in rows].count("class") == 6
    text = markdown(report)
    for row in rows:
        assert percent(float(row["after_accuracy"])) in text
        assert points(float(row["change"])) in text
    health = next(row for row in rows if row["code"] == "Health")
    assert float(health["before_accuracy"]) == pytest.approx(report.before.classes["Health"].accuracy, abs=1e-6)
    assert (int(health["n"]), int(health["fixed"])) == (8, report.change.classes["Health"].fixed)
    macro = next(row for row in rows if row["name"] == "Macro average")
    assert float(macro["change"]) == pytest.approx(report.change.macro.value, abs=1e-6)
    assert macro["fixed"] == ""
    assert "Research use only, not for diagnosis." in text
    assert "host (before)" in text
    assert "graft (after)" in text


def test_a_difference_is_claimed_only_when_interval_and_tests_agree(cases, runs):
    _, before, after, _ = runs
    better = build_report(cases, after, before, draws=500)
    assert better.change.settled
    assert headline(better).startswith("After gets 29.2 percentage points more")
    assert headline(build_report(cases, before, after, draws=500)).startswith("After gets 29.2 percentage points fewer")
    same = build_report(cases, after, after, draws=500)
    assert not same.change.settled
    assert same.change.mcnemar.p == 1
    assert headline(same) == "These questions can't tell before and after apart"


def test_reports_of_finished_runs_from_their_folders(cases_file, cases, runs, tmp_path):
    folder, *_ = runs
    report_runs(tmp_path, cases, folder / "graft", folder / "host", folder / "blind")
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.md", "per_class.csv"}
    first = (tmp_path / "report.html").read_bytes()
    report_runs(tmp_path, cases, folder / "graft", folder / "host", folder / "blind")
    assert (tmp_path / "report.html").read_bytes() == first
    with pytest.raises(ComparisonError, match="answered other cases than the 47 given"):
        report_runs(tmp_path, cases[:-1], folder / "graft")


def test_a_blind_run_must_be_blind_and_of_this_model(cases, runs, tmp_path):
    _, before, after, blind = runs
    with pytest.raises(ComparisonError, match="it saw the images"):
        build_report(cases, after, blind=before)
    with pytest.raises(ComparisonError, match="of another model"):
        build_report(cases, before, blind=blind)


def test_what_is_said_about_looking_follows_the_controls(cases, runs):
    _, _, after, blind = runs
    said = [looking(build_report(cases, *given, draws=100)) for given in ((after, None, blind), (after,), (blind,))]
    assert said[0].endswith(": more than without them.")
    assert ": more than class frequency alone. A run on blank images (--blind) was not given." in said[1]
    assert "graft (blind) saw blank images only" in said[2]


def test_embedded_cases_show_flips_first_and_every_class(cases, report):
    assert len(report.shown) == 48
    few = choose_cases(report.shown, count=18, flipped=5)
    assert len(few) == 18
    outcomes = Counter(item.outcome for item in few)
    assert outcomes["fixed"] == 5
    assert outcomes["broken"] == 5
    assert len({item.case.code for item in few if item.outcome not in ("fixed", "broken")}) >= 5
    assert few == choose_cases(report.shown, count=18, flipped=5)


class Hostile(ConstantLetter):
    name = "<script>alert(1)</script>"

    def __init__(self) -> None:
        super().__init__("A")
        self.name = Hostile.name

    def score(self, asks, views):
        return [[score._replace(text="<b>") for score in scores] for scores in super().score(asks, views)]


def test_names_from_outside_are_escaped(cases, tmp_path):
    hostile = [case.model_copy(update={"source": "<img src=x>", "question": "Is a < b & c?"}) for case in cases[:24]]
    hostile += [case.model_copy(update={"source": "a|b"}) for case in cases[24:]]
    report = build_report(hostile, score_cases(hostile, Hostile(), tmp_path), draws=100)
    html = page(report)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<img src=x>" not in html
    assert "Is a &lt; b &amp; c?" in html
    assert "| a\\|b |" in markdown(report)


def test_numbers_as_printed():
    assert percent(0.61249) == "61.2\u202f%"
    assert [points(value) for value in (0.063, -0.0049, -0.0001, 0.0)] == ["+6.3", "−0.5", "0.0", "0.0"]
    assert [p_value(p) for p in (0.0004, 0.0123, 0.4)] == ["p < 0.001", "p = 0.012", "p = 0.40"]
