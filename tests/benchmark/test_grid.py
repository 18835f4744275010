"""Tables of hosts and towers: the numbers, their three files, and the page in a real browser."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from oracle import Oracle, pixel_hash

from benchmark.cases.floor import questions_of
from benchmark.cases.images import open_case_image
from benchmark.predictions.answers import answers_of
from benchmark.predictions.batches import Asking
from benchmark.predictions.file import ComparisonError
from benchmark.predictions.scoring import score_cases
from benchmark.report.grid import NOT_FINISHED, Entry, build_grid
from benchmark.report.grid_files import write_grid
from benchmark.report.grid_tables import latex, narrow_grid_table, seed_table
from benchmark.report.terminal import print_grid
from benchmark.stats.seeds import method_difference, method_number

HOSTS = ("llava", "med-flamingo", "a-host-of-our-own")
WRONG = {"untouched": 2, "own": 2, "random": 3, "mgll": 5}
BROKEN = "no such <b>tower</b> file"


@pytest.fixture(scope="module")
def cells(coloured_cases, tmp_path_factory):
    """Three hosts, four towers, two seeds: every so-manieth answer is wrong, and one cell has failed."""
    cases, folder = coloured_cases(48), tmp_path_factory.mktemp("cells")
    entries = []
    for host in HOSTS:
        for tower, every in WRONG.items():
            for seed in (0, 1) if tower != "own" else (0,):
                answers = {
                    (pixel_hash(open_case_image(case)), case.question): case.options[
                        case.answer if (number + seed) % every else (case.answer + 1) % 4
                    ]
                    for number, case in enumerate(cases)
                }
                failed = BROKEN if (host, tower, seed) == (HOSTS[1], "random", 1) else None
                runs = (
                    {}
                    if failed
                    else {
                        shown: score_cases(
                            cases, Oracle(answers), folder / host / tower / str(seed) / shown, Asking(images=shown)
                        )
                        for shown in ("own", "blank")
                    }
                )
                entries.append(Entry(host, tower, seed, runs, failed))
    return cases, entries


@pytest.fixture(scope="module")
def grid(cells):
    cases, entries = cells
    return build_grid(cases, entries, "untouched", "own")


def picked(entries, host, tower, order):
    found = [answers_of(e.runs["own"], order) for e in entries if (e.host, e.tower) == (host, tower) and not e.failure]
    return [answers.shares(answers.primary) for answers in found]


def test_numbers_and_changes_are_those_of_the_methods(cells, grid):
    cases, entries = cells
    questions, order = questions_of(cases), [case.id for case in cases]
    assert [(row.host, row.tower) for row in grid.rows] == [(host, tower) for host in HOSTS for tower in WRONG]
    for row in grid.rows:
        runs, before = (picked(entries, row.host, tower, order) for tower in (row.tower, "untouched"))
        for number in questions.totals():
            assert row.numbers[number.name] == method_number(number, questions, runs)
            if row.tower in ("random", "mgll"):
                assert row.changes[number.name] == method_difference(number, questions, before, runs)
    last = grid.row("llava", "mgll")
    assert last.changes["overall"].estimate.value == pytest.approx(0.5 - 0.2, abs=0.02)
    assert last.p < last.p_holm
    assert last.controls["blank"] < 0.5 < last.numbers["overall"].estimate.value
    pair = grid.pairs["llava", "random"].estimate
    assert pair.value == pytest.approx(1 / 3 - 1 / 5, abs=0.02)


def test_one_seed_claims_nothing_about_the_method(cells):
    cases, entries = cells
    found = build_grid(cases, [entry for entry in entries if entry.seed == 0], "untouched", "own")
    assert all(np.isnan(row.p) for row in found.rows)
    assert all(row.changes for row in found.rows if row.tower in ("random", "mgll"))


def test_an_own_tower_that_changes_an_answer_is_found(cells, grid):
    cases, entries = cells
    assert grid.changed == dict.fromkeys(HOSTS, "")
    other = next(e for e in entries if (e.host, e.tower, e.seed) == ("llava", "mgll", 0))
    swapped = [
        Entry(e.host, e.tower, e.seed, other.runs) if (e.host, e.tower) == ("llava", "own") else e for e in entries
    ]
    changed = build_grid(cases, swapped, "untouched", "own").changed
    assert "answers differ" in changed.pop("llava")
    assert set(changed.values()) == {""}


def test_a_run_of_other_cases_is_refused(cells, coloured_cases):
    _, entries = cells
    with pytest.raises(ComparisonError, match="answered other cases"):
        build_grid(coloured_cases(12), entries, "untouched", "own")


def test_a_failed_cell_takes_its_seed_alone(grid, tmp_path):
    row = grid.row(HOSTS[1], "random")
    assert (row.seeds, row.failures) == ((0,), {1: BROKEN})
    assert np.isnan(row.p)
    assert np.isfinite(grid.row(HOSTS[1], "mgll").p)


def test_a_cell_that_is_still_to_be_made_has_not_failed(grid):
    failed = replace(grid.row(HOSTS[1], "random"), seeds=(), numbers={}, failures={0: NOT_FINISHED, 1: BROKEN})
    to_do = replace(failed, failures=dict.fromkeys((0, 1), NOT_FINISHED))
    for row, said in ((failed, "failed"), (to_do, NOT_FINISHED)):
        one = replace(grid, rows=(*grid.rows[:-1], row))
        assert f"{{{said}}}" in latex(one)
        assert narrow_grid_table(one).rows[-1][3].text == said
    assert seed_table(replace(grid, rows=(grid.rows[0], to_do))).rows[-1][-1].text == NOT_FINISHED


def test_the_csv_and_the_latex_say_what_the_grid_says(grid, tmp_path):
    def made() -> list[bytes]:  # the PDF of a drawing has no fixed order inside
        return [path.read_bytes() for path in write_grid(tmp_path, grid, {}) if path.suffix != ".pdf"]

    first = made()
    assert first == made()
    lines = list(csv.DictReader((tmp_path / "table2.csv").open()))
    line = next(x for x in lines if (x["host"], x["tower"], x["number"]) == ("llava", "mgll", "overall"))
    found = grid.row("llava", "mgll")
    each = [float(line[f"seed_{seed}"]) for seed in (0, 1)]
    assert each == pytest.approx(found.numbers["overall"].by_run, abs=1e-5)
    assert float(line["change_low"]) == pytest.approx(found.changes["overall"].estimate.low, abs=1e-5)
    assert float(line["p_holm"]) == pytest.approx(found.p_holm, rel=1e-4)
    assert [x["failure"] for x in lines if x["failure"]] == [BROKEN]
    tex = (tmp_path / "table2.tex").read_text()
    assert tex.count("\\midrule") == len(HOSTS)
    rows = [row for row in tex.splitlines() if row.endswith("\\\\")]
    assert len({row.count("&") for row in rows}) == 1
    assert "LLaVA & untouched & " in tex


def test_the_terminal_shows_what_towers_change_with_intervals(grid, capsys):
    print_grid(grid)
    said = capsys.readouterr().out
    found = grid.row("llava", "mgll")
    line = next(line for line in said.splitlines() if " mgll " in line)
    assert f"{100 * found.numbers['overall'].estimate.value:.1f}\u202f% [" in line
    assert " to " in line
    assert "mgll: " in said
    assert "48 questions" in said


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_the_page_shows_it_all_and_fetches_nothing(browser, grid, tmp_path, width, scheme):
    for host in HOSTS:
        (tmp_path / "reports" / host).mkdir(parents=True)
        (tmp_path / "reports" / host / "report.html").write_text(f"<title>{host}</title>")
    write_grid(tmp_path, grid, {host: f"reports/{host}/report.html" for host in HOSTS})
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, fetched, errors = context.new_page(), [], []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    file = tmp_path / "table2.html"
    page.goto(file.as_uri())
    assert "mgll: better than the untouched host in 3 of 3 hosts" in page.locator("h1").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert f"Med-Flamingo, random, seed 1: {BROKEN}" in page.get_by_role("alert").inner_text()
    assert "3 of 3 hosts checked" in page.locator(".own").inner_text()
    table = page.get_by_role("region", name="Hosts and towers")
    assert table.locator("tbody tr").count() == len(grid.rows)
    assert "1 of 2" in table.inner_text()
    panel = page.locator(".forest").first
    change = grid.row("llava", "mgll").changes["overall"].estimate
    box, dot = (panel.locator(place).first.bounding_box() for place in ("svg", "circle"))
    scale = float(panel.locator(".ticks span").last.inner_text().removeprefix("+")) / 100
    at = (dot["x"] + dot["width"] / 2 - box["x"]) / box["width"]
    assert at == pytest.approx(0.5 + 0.5 * change.value / scale, abs=0.01)
    heat = page.get_by_role("region", name="Change by disease, mgll").locator("tbody tr")
    assert heat.count() == len(grid.codes) + 3
    assert heat.last.locator("td").count() == len(HOSTS)
    before = [url for url in fetched if not url.startswith(("data:", file.as_uri()))]
    assert (before, errors) == ([], [])
    page.get_by_role("link", name="LLaVA: mgll").click()
    assert page.title() == "llava"
    context.close()
