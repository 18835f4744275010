"""Every page for everyone: axe-core finds nothing serious in either theme, and the report prints to two pages."""

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from answered import row as answered
from answered import run_of

from benchmark.leaderboard.content import build_board
from benchmark.leaderboard.pictures import Pictures
from benchmark.leaderboard.writing import write_board
from benchmark.predictions.file import Run, cases_sha256
from benchmark.report.content import build_report
from benchmark.report.grid import Entry, build_grid
from benchmark.report.grid_files import write_grid
from benchmark.report.writing import write_report
from mgll.evaluation.embedding import Embedding
from mgll.evaluation.evaluation import Evaluation
from mgll.evaluation.reading import Reading
from mgll.tower.curve import Curve

pytestmark = pytest.mark.slow

SERIOUS = ("serious", "critical")


def answering(cases, name: str, wrong_every: int, **header: object) -> Run:
    """A run that errs at every so-manieth case, not always with the same certainty."""
    rows = []
    for number, case in enumerate(cases):
        chosen = case.answer if number % wrong_every else (case.answer + 1) % 4
        weights = [1.0 + (option == chosen) * (2 + number % 7) for option in range(4)]
        known = {"answer": case.answer, "code": case.code, "group": case.group}
        rows.append(answered(case.id, letters=weights, **known))
    return run_of(rows, model=name, model_sha256=name, cases_sha256=cases_sha256(cases), **header)


@pytest.fixture(scope="module")
def pages(coloured_cases, tmp_path_factory) -> dict[str, Path]:
    """Every kind of page that there is."""
    folder, cases = tmp_path_factory.mktemp("pages"), coloured_cases(48)
    host, graft = answering(cases, "host", 2), answering(cases, "graft", 3)
    blank = Run({**graft.header, "images": "blank"}, graft.predictions)
    found = {
        "two runs": write_report(folder / "two", build_report(cases, graft, host, blank, paper="llava")),
        "one run": write_report(folder / "one", build_report(cases, graft)),
    }
    made = {name: written["report.html"] for name, written in found.items()}
    entries = [
        Entry("llava", tower, seed, {"own": answering(cases, f"{tower} {seed}", 2 + seed + len(tower) % 3)})
        for tower in ("untouched", "random", "mgll")
        for seed in (0, 1)
    ]
    broken = Entry("llava", "mgll", 2, {}, "no such tower file")
    made["table 2"] = write_grid(folder, build_grid(cases, [*entries, broken], "untouched", "own"), {})[0]
    random, truth = np.random.default_rng(0), np.arange(80).reshape(40, 2) % 3 == 0
    names = tuple(f"{number}.png" for number in range(40))
    scores = random.normal(size=(2, 40, 2)) + np.array([0.0, 2.0])[:, None, None] * truth
    towers = {
        method: [
            Evaluation(
                method,
                method,
                {"probe": Reading("probe", ("DR", "AMD"), names, tuple(("", n) for n in names), truth, own)},
                {},
                0.1,
                (),
            )
        ]
        for method, own in zip(("random", "mgll"), scores, strict=True)
    }
    places = Embedding(random.random((40, 2)).astype(np.float32), ("DR", "AMD") * 20, ("one",) * 40, 40)
    pictures = Pictures({"eyes": {"mgll": places}}, {"mgll": [Curve((1, 2), {"loss": (3.0, 1.0)})]})
    made["leaderboard"] = write_board(folder / "board", build_board({"eyes": towers}), pictures)
    return made


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["two runs", "one run", "table 2", "leaderboard"])
def test_axe_finds_nothing_serious(browser, pages, name, scheme):
    axe = (files(pytest.importorskip("axe_playwright_python")) / "axe.min.js").read_text(encoding="utf-8")
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(pages[name].as_uri())
    for summary in page.locator("summary").all():
        if summary.evaluate("e => !e.parentElement.open"):
            summary.click()
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    context.close()
    assert len(found["passes"]) > 15
    assert {"html-has-lang", "document-title", "color-contrast"} <= {rule["id"] for rule in found["passes"]}
    serious = [
        (rule["id"], node["html"])
        for rule in found["violations"]
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
    ]
    assert serious == []


def printed_pages(browser, page_file: Path) -> int:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    made = page.pdf(prefer_css_page_size=True)
    page.close()
    return len(re.findall(rb"/Type\s*/Page\b", made))


@pytest.mark.parametrize("name", ["two runs", "one run"])
def test_a_report_prints_to_two_pages(browser, pages, name):
    assert printed_pages(browser, pages[name]) == 2
