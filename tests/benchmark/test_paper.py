"""The paper's rows: all sixteen recompute, three cells are misprinted, intervals are statsmodels'."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

import benchmark.paper.__main__ as main_
from benchmark.paper import rows as paper
from benchmark.paper.rows import PAPER_HOSTS, misprints, paper_change, paper_floor, paper_row, paper_rows, recompute
from benchmark.stats.significance import mcnemar
from mgll.vocabulary.diseases import TEN_CLASSES
from mllm_adapters.hosts.registry import HOSTS

ROWS = [pytest.param(row, id=f"{row.host}-{row.tower}") for row in paper_rows()]


def test_there_are_eight_hosts_with_two_towers_each():
    rows = paper_rows()
    assert len(rows) == len({(row.host, row.tower) for row in rows}) == 16
    assert [row.table for row in rows] == [table for table in range(27, 35) for _ in range(2)]
    assert {row.host for row in rows} == set(PAPER_HOSTS.values())
    assert set(PAPER_HOSTS) <= set(HOSTS)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_recomputes_to_the_printed_decimals(row):
    again = recompute(row)
    assert (row.n, len(row.cells), len(row.ten)) == (2233, 25, 10)
    assert again.overall == row.overall
    assert again.ten_class == row.ten_class
    # From whole counts too, but for the two rows with a misprinted cell.
    assert (again.ten_class_of_counts == row.ten_class) == (not again.misprints)


def test_the_three_misprinted_cells():
    found = [(row.host, row.tower, cell.code, cell.printed, cell.correct, cell.recomputed) for row, cell in misprints()]
    assert found == [
        ("InstructBLIP", "original", "AMD", Decimal("80.17"), 137, Decimal("80.12")),
        ("InstructBLIP", "original", "Glaucoma", Decimal("59.30"), 96, Decimal("59.26")),
        ("LLaVA-Med", "original", "DME", Decimal("16.67"), 10, Decimal("17.24")),
    ]
    averages = [recompute(row) for row in (misprints()[0][0], misprints()[2][0])]
    assert [(each.ten_class, each.ten_class_of_counts) for each in averages] == [
        (Decimal("47.29"), Decimal("47.28")),
        (Decimal("24.28"), Decimal("24.33")),
    ]


def test_one_case_more_or_less_in_a_misprinted_cell_breaks_the_overall_accuracy():
    for row, cell in misprints():
        for step in (-1, 1):
            other = replace(cell, printed=Decimal(100 * (cell.correct + step)) / cell.cases)
            assert other.correct == cell.correct + step
            changed = replace(row, cells=tuple(other if each is cell else each for each in row.cells))
            assert recompute(changed).overall != row.overall


@pytest.mark.parametrize("host", PAPER_HOSTS)
def test_printed_gains_are_the_differences(host):
    change = paper_change(host)
    gain = change.after.overall_gain
    assert float(gain) == pytest.approx(100 * change.overall.value, abs=0.0051)
    averages = change.after.ten_class - change.before.ten_class
    printed = change.after.ten_class_gain
    assert abs(averages - printed) <= Decimal("0.05")
    assert change.before.overall_gain is None is change.before.ten_class_gain


def test_the_largest_headline_gain_is_an_average_of_small_classes():
    change = paper_change("llava-med")
    assert change.after.ten_class_gain == Decimal("34.1")
    assert change.overall.value == pytest.approx(0.208, abs=5e-4)
    assert change.ten_class.value == pytest.approx(0.3404, abs=5e-4)
    assert min(cell.cases for cell in change.after.ten) == 7


@pytest.mark.parametrize("row", ROWS[:3])
def test_intervals_of_a_row(row):
    summary = paper.summarise_row(row)
    assert (summary.overall.low, summary.overall.high) == pytest.approx(
        proportion_confint(row.correct, 2233, method="wilson")
    )
    assert summary.ten_class.value == pytest.approx(float(recompute(row).ten_class_of_counts) / 100, abs=5.1e-5)
    assert summary.macro.value == pytest.approx(np.mean([cell.correct / cell.cases for cell in row.cells]))
    assert list(summary.classes) == [cell.code for cell in row.cells]


def test_the_average_of_classes_is_covered_by_its_interval_as_often_as_promised():
    row = paper_row("instructblip", "mgll")
    ten = {cell.code: cell for cell in row.ten}
    truth = np.mean([ten[code].correct / ten[code].cases for code in TEN_CLASSES])
    random, covered = np.random.default_rng(0), 0
    for _ in range(200):
        drawn = tuple(
            replace(
                cell, printed=Decimal(100 * int(random.binomial(cell.cases, cell.correct / cell.cases))) / cell.cases
            )
            for cell in row.cells
        )
        estimate = paper.summarise_row(replace(row, cells=drawn)).ten_class
        covered += estimate.low <= truth <= estimate.high
    assert 184 <= covered <= 199


@pytest.mark.parametrize("host", PAPER_HOSTS)
def test_the_interval_of_a_gain_is_newcombes(host):
    change = paper_change(host)
    counts = (change.after.correct, 2233, change.before.correct, 2233)
    expected = confint_proportions_2indep(*counts, method="newcomb", compare="diff")
    assert (change.overall.low, change.overall.high) == pytest.approx(expected)


def test_the_range_of_p_is_that_of_the_extreme_overlaps():
    change = paper_change("janus-pro")
    most, least = [], []
    for old, new in zip(change.before.cells, change.after.cells, strict=True):
        case = np.arange(old.cases)
        most.append((case < old.correct, case < new.correct))
        least.append((case < old.correct, case >= new.cases - new.correct))
    for pairs, p in ((most, change.lowest_p), (least, change.highest_p)):
        before, after = (np.concatenate(side) for side in zip(*pairs, strict=True))
        assert (before.sum(), after.sum()) == (change.before.correct, change.after.correct)
        assert mcnemar(before.astype(int), after.astype(int)).p == pytest.approx(p)
    assert change.lowest_p < change.highest_p < 0.001


def test_a_host_that_the_paper_lacks_has_no_row():
    assert paper_row("qwen2-vl", "mgll") is None
    assert paper_change("qwen2-vl") is None


def test_the_floor_lies_above_several_rows():
    floor = paper_floor()
    below = {row.host for row in paper_rows() if row.overall < 100 * Decimal(floor.overall)}
    assert below == {"InstructBLIP", "Mini-Gemini", "LLaVA-Med", "Med-Flamingo"}
    assert paper_floor(50).overall > floor.overall


def test_the_command_prints_every_row(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main_._main([]) == 0
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert "55.2 [53.1, 57.2]" in printed
    assert printed.count("misprinted") == 3
    assert all(printed.count(name) >= 3 for name in PAPER_HOSTS.values())
