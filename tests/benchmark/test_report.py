"""Reports say what the predictions hold: every figure is computed again here, from the rows, by plain arithmetic."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from answered import row, run_of
from oracle import Oracle, pixel_hash
from scipy.stats import binomtest

from benchmark.cases.images import open_case_image
from benchmark.predictions.answers import Reading
from benchmark.predictions.batches import Asking
from benchmark.predictions.file import ComparisonError, Run, cases_sha256, questions_sha256
from benchmark.predictions.scoring import score_cases
from benchmark.report.case_browser import outcomes
from benchmark.report.content import build_report
from benchmark.report.first_screen import claim, headline
from benchmark.report.number_format import p_value, percent, points
from benchmark.report.side_tables import agreement_table, control_table, letter_table, reading_table, seed_table
from benchmark.report.tables import rows_of
from benchmark.report.wording import answer, could_have_shown, holding, looking, seeds, verdict
from benchmark.report.writing import report_runs
from benchmark.stats.significance import bootstrap, clustered_share


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
    score_cases(cases, Partly(cases, 5, "graft"), folder / "shuffled", Asking(images="shuffled"))
    return folder, before, after, blind


@pytest.fixture(scope="module")
def report(cases, runs):
    _, before, after, blind = runs
    return build_report(cases, after, before, blind, draws=500)


def patient(row) -> str:
    """A name in two sources is two patients."""
    return f"{row.source}/{row.group}"


def test_counts_and_intervals_by_class_and_overall(report, runs):
    _, _, after, blind = runs
    correct = Counter(row.code for row in after.predictions if row.chosen == row.answer)
    n = Counter(row.code for row in after.predictions)
    assert {code: share.n for code, share in report.after.classes.items()} == n
    for code, share in report.after.classes.items():
        assert share.correct == correct[code]
        mine = [row for row in after.predictions if row.code == code]
        patients = clustered_share([row.chosen == row.answer for row in mine], [patient(row) for row in mine])
        assert (share.low, share.high) == (patients.low, patients.high)
    values = [float(row.chosen == row.answer) for row in after.predictions]
    overall = bootstrap(values, [patient(row) for row in after.predictions], draws=500)
    assert (report.after.overall.low, report.after.overall.high) == (overall.low, overall.high)
    assert report.after.overall.correct == sum(correct.values())
    assert report.after.macro.value == pytest.approx(sum(correct[code] / n[code] for code in n) / len(n))
    ten = [code for code in n if code in ("AMD", "Cataract", "DR", "Glaucoma", "Myopia")]
    assert report.after.ten_class.value == pytest.approx(sum(correct[code] / n[code] for code in ten) / 5)
    assert report.after.groups == len({patient(row) for row in after.predictions}) > 24
    control = report.controls["blind"]
    assert all(row.tied and row.chosen is None for row in blind.predictions)
    assert (control.run.letters["letter"].counts, control.run.letters["letter"].none) == ((0, 0, 0, 0), 48)
    assert control.run.overall.correct == 48 / 4
    assert control.gain.overall.value == pytest.approx(
        (report.after.overall.correct - control.run.overall.correct) / 48
    )


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
    names = {(False, True): "fixed", (True, False): "broken", (False, False): "both-wrong", (True, True): "both-right"}
    assert outcomes(report) == [names[pair] for pair in pairs]
    assert report.change.detectable.discordant == pytest.approx((fixed + broken) / 48)


def test_the_floor_is_the_most_frequent_option(report, cases):
    frequency = Counter(case.code for case in cases)
    expected = 0.0
    for case in cases:
        most = max(frequency[code] for code in case.option_codes)
        picked = [code for code in case.option_codes if frequency[code] == most]
        expected += (case.code in picked) / len(picked)
    assert report.floors.of(report.questions.overall())["frequency"] == pytest.approx(expected / 48)


@pytest.mark.slow
def test_a_difference_is_claimed_only_when_interval_and_tests_agree(cases, runs):
    _, before, after, _ = runs
    better = build_report(cases, after, before, draws=500)
    assert better.change.settled
    names = [run.name for run in (after, before)]
    assert (
        headline(better) == f"{names[0]} answers 29.2 percentage points more of 48 questions correctly than {names[1]}"
    )
    assert "One seed a side" in claim(better)
    assert headline(build_report(cases, before, after, draws=500)).startswith(
        f"{names[1]} answers 29.2 percentage points fewer"
    )
    assert "nothing is claimed about the methods" in verdict(better)
    same = build_report(cases, after, after, draws=500)
    assert not same.change.settled
    assert same.change.mcnemar.p == 1
    assert headline(same) == "These 48 questions can't tell the run before and the run after apart"
    assert "expected to show" in could_have_shown(same)


FILES = {"report.html", "report.md", "per_class.csv", "per_class.parquet", "per_case.csv", "per_case.parquet"}
FILES |= {"methods.txt", "tables.tex", "tables.xlsx"}
FIGURES = ("overview", "by-class", "confusions-before", "confusions-after", "calibration")


@pytest.mark.slow
def test_reports_of_finished_runs_from_their_folders(cases, runs, tmp_path):
    folder, *_ = runs
    report_runs(tmp_path, cases, folder / "graft", folder / "host", folder / "blind")
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert first.keys() == FILES
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "figures").glob("*.svg")}
    assert {f"{name}.svg" for name in FIGURES} <= drawn.keys()
    report_runs(tmp_path, cases, folder / "graft", folder / "host", folder / "blind")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == first
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").glob("*.svg")} == drawn
    with pytest.raises(ComparisonError, match="answered other cases than the 47 given"):
        report_runs(tmp_path, cases[:-1], folder / "graft")


def test_a_run_that_lacks_cases_is_refused(cases, runs):
    _, before, after, blind = runs

    def old(run: Run, rows: int) -> Run:
        """As an earlier version wrote it, cut after so many rows."""
        return Run({key: value for key, value in run.header.items() if key != "answers"}, run.predictions[:rows])

    for given in ((old(after, 31),), (old(after, 31), old(before, 31)), (after, None, old(blind, 31))):
        with pytest.raises(ComparisonError, match=r"has 31 of the 48 answers") as error:
            build_report(cases, *given, draws=100)
        assert "\n" not in str(error.value)
    with pytest.raises(
        ComparisonError, match=r"'graft' has 31 of the 48 answers .* missing is case 'case-031', rotation 0"
    ):
        build_report(cases, old(after, 31), draws=100)
    assert build_report(cases, old(after, 48), draws=100).after.overall.n == 48
    four = Run({**after.header, "rotations": 4}, after.predictions)
    with pytest.raises(ComparisonError, match="has 48 of the 192 answers"):
        build_report(cases, four, draws=100)
    other = after.predictions[0].model_copy(update={"answer": (after.predictions[0].answer + 1) % 4})
    with pytest.raises(ComparisonError, match="says that case 'case-000' has option 1"):
        build_report(cases, Run(after.header, (other, *after.predictions[1:])), draws=100)
    surplus = after.predictions[0].model_copy(update={"case": "unheard-of"})
    with pytest.raises(ComparisonError, match="answers case 'unheard-of'"):
        build_report(cases, Run(after.header, (*after.predictions, surplus)), draws=100)


def test_a_control_must_have_seen_other_images_and_be_of_this_model(cases, runs):
    _, before, after, blind = runs
    with pytest.raises(ComparisonError, match="it saw own images instead of blank ones"):
        build_report(cases, after, blind=before)
    with pytest.raises(ComparisonError, match="it saw blank images instead of shuffled ones"):
        build_report(cases, after, shuffled=blind)
    with pytest.raises(ComparisonError, match="of another model"):
        build_report(cases, before, blind=blind)


def test_what_is_said_about_looking_follows_the_controls(cases, runs):
    _, _, after, blind = runs
    said = [looking(build_report(cases, *given, draws=100)) for given in ((after, None, blind), (after,), (blind,))]
    assert said[0].endswith(": it uses them.")
    assert ": more than any of these rules. A run on blank images (--blind) was not given." in said[1]
    assert "graft (blind) saw blank images only" in said[2]


def test_controls_stand_beside_the_run(cases, runs):
    folder, *_ = runs
    report = report_runs(folder / "made", cases, folder / "graft", blind=folder / "blind", shuffled=folder / "shuffled")
    names, overall = zip(*((line[0], line[1]) for line in rows_of(control_table(report))), strict=True)
    assert names[0] == "graft, with the images"
    assert names[1:3] == ("Blank images", "Images of other cases")
    assert overall[1].startswith(percent(report.controls["blind"].run.overall.accuracy))
    floors = report.floors.of(report.questions.overall())
    assert overall[3:6] == tuple(map(percent, floors.values()))
    assert (names[6], overall[6]) == ("Rule: always A, the letter that is right most often", percent(0.25))


@pytest.fixture(scope="module")
def in_four_orders(cases):
    """Two runs in all three views: the first always says A; the second knows, but for every sixth case, and mumbles at times."""
    known = {"cases_sha256": cases_sha256(cases), "questions_sha256": questions_sha256(cases)}

    def made(name: str, knows: bool):
        rows = []
        for number, case in enumerate(cases):
            for rotation in range(4):
                at_a = (0, 1, 2, 3)[rotation]
                pick = (case.answer + (number % 6 == 0)) % 4 if knows else at_a
                weights = [7 if option == pick else 1 for option in range(4)]
                mumbles = knows and number % 8 == 1 and rotation == 2
                made_row = row(
                    case.id, rotation, weights, None if mumbles else pick, weights[::-1], case.answer, case.code, case.group,
                    "It is `an eye`." if mumbles else "ABCD"[pick],
                )  # fmt: skip
                rows.append(made_row.model_copy(update={"source": case.source}))
        return run_of(rows, ["letter", "text", "option"], model=name, **known)

    return made("constant", False), made("knowing", True)


def test_orders_and_views_are_reported_apart(cases, in_four_orders):
    before, after = in_four_orders
    report = build_report(cases, after, before, draws=300)
    share = {
        (reading.view, reading.way): (
            report.before.readings[reading].overall.accuracy,
            report.after.readings[reading].overall.accuracy,
        )
        for reading in report.after.readings
    }
    assert share["letter", "stored"] == (0.25, 40 / 48)
    assert share["letter", "averaged"] == (0.25, 40 / 48)
    assert share["letter", "all"] == (0, 40 / 48)
    assert share["text", "averaged"] == (0.25, 40 / 48)
    assert share["text", "all"][1] == sum(number % 6 > 0 and number % 8 != 1 for number in range(48)) / 48
    assert share["option", "stored"][1] < 0.3
    assert report.after.primary == Reading("letter", "averaged")
    assert report.before.letters["letter"].counts == (192, 0, 0, 0)
    assert report.after.answers == (48, 48, 48, 48)
    assert rows_of(letter_table(report))[1] == ("chosen before", "192 (100.0\u202f%)", *["0 (0.0\u202f%)"] * 3)
    assert len(rows_of(reading_table(report))) == 9
    assert "In every order right are 83.3" in holding(report)
    moved = report.change.readings[Reading("letter", "all")]
    assert moved.overall.value == pytest.approx(40 / 48)
    assert moved.p < 0.001


def test_views_are_compared_with_each_other(cases, in_four_orders):
    before, after = in_four_orders
    report = build_report(cases, after, before, draws=300)
    pair = next(pair for pair in report.after.pairs if (pair.first, pair.second) == ("letter", "text"))
    assert pair.agreement.equal == pytest.approx(1 - 6 / 192)
    assert pair.equal.value == pytest.approx(1 - 6 / 192)
    assert pair.agreement.kappa == 1
    assert rows_of(agreement_table(report))[3][0] == "Letters and words, after"
    assert rows_of(agreement_table(report))[3][-2:] == ("192", "6")
    assert [found.case for found in report.after.unnamed] == [f"case-{number:03d}" for number in range(1, 48, 8)]
    assert "6 of 192 replies in words name no option" in holding(report)


def test_calibration_is_that_of_the_averaged_probabilities(cases, in_four_orders):
    report = build_report(cases, in_four_orders[1], draws=300)
    found = report.after.calibration
    assert found.n == 48
    assert found.brier.value == pytest.approx((40 * (0.3**2 + 3 * 0.1**2) + 8 * (0.9**2 + 0.7**2 + 2 * 0.1**2)) / 48)
    assert found.overconfidence.value == pytest.approx(0.7 - 40 / 48)


def test_published_figures_of_the_same_host(cases, runs):
    _, _, after, _ = runs
    assert build_report(cases, after, draws=100).paper is None
    known = type(after)({**after.header, "host": "llava"}, after.predictions)
    assert build_report(cases, known, draws=100).paper == "llava"
    assert build_report(cases, known, draws=100, paper="llava-med").paper == "llava-med"
    with pytest.raises(ValueError, match="no figures for 'qwen2-vl'; it has them for instructblip"):
        build_report(cases, after, paper="qwen2-vl")


def test_numbers_as_printed():
    assert percent(0.61249) == "61.2\u202f%"
    assert [points(value) for value in (0.063, -0.0049, -0.0001, 0.0)] == ["+6.3", "−0.5", "0.0", "0.0"]
    assert [p_value(p).replace("\xa0", " ") for p in (0.0004, 0.0123, 0.4)] == ["p < 0.001", "p = 0.012", "p = 0.40"]


def another_seed(run, number: int, wrong: int):
    """The same run as if of other weights, which answer so many more of the first cases wrongly."""
    rows = [
        row
        if place >= wrong
        else row.model_copy(
            update={
                "chosen": (row.answer + 2) % 4,
                "log_probs": tuple(-0.1 if option == (row.answer + 2) % 4 else -3.3 for option in range(4)),
            }
        )
        for place, row in enumerate(run.predictions)
    ]
    return replace(run, header={**run.header, "model_sha256": f"{number:064d}"}, predictions=tuple(rows))


def test_several_runs_say_something_about_the_method(cases, runs):
    _, before, after, _ = runs
    befores = [another_seed(before, number, number) for number in range(3)]
    afters = [another_seed(after, 10 + number, 2 * number) for number in range(3)]
    report = build_report(cases, afters, befores, draws=200)
    each = [sum(row.chosen == row.answer for row in run.predictions) / 48 for run in afters]
    assert report.after.over_seeds["overall"].by_run == pytest.approx(each)
    assert report.after.overall.accuracy == pytest.approx(sum(each) / 3)
    assert report.change.of_methods
    assert report.change.runs == (3, 3)
    assert "with runs and patients as random" in answer(report)[2]
    assert "3 runs before and 3 after were compared" in seeds(report)
    assert "What it would take" in seeds(report)
    assert all(0 <= p <= 1 for p in report.change.class_p.values())
    two = build_report(cases, afters[:2], befores[:2], draws=200)
    assert two.change.of_methods
    assert all(np.isnan(p) for p in two.change.class_p.values())
    names = [line[0] for line in rows_of(seed_table(report))]
    assert names[:4] == [
        "host, before, run 1",
        "host, before, run 2",
        "host, before, run 3",
        "host, before, mean of 3 runs",
    ]
    assert names[-2:] == ["p", "Scatter between runs (standard deviation)"]
    assert any("means over the runs" in note for note in report.notes)
    alone = build_report(cases, afters, draws=200)
    assert "3 runs were given" in seeds(alone)
    with pytest.raises(ComparisonError, match="1 before and 3 after: what differs between two methods takes two runs"):
        build_report(cases, afters, befores[0], draws=200)


def test_copies_of_a_run_are_not_seeds(cases, runs):
    _, before, after, _ = runs
    with pytest.raises(ComparisonError, match="2 runs of 'graft' are of 1 sets of weights"):
        build_report(cases, [after, after], [before, another_seed(before, 1, 1)])
