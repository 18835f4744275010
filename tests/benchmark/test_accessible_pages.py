"""Every page for everyone: axe-core finds nothing serious in either theme, and the report prints to two pages."""

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from answered import run_about

from benchmark.leaderboard.content import build_board
from benchmark.leaderboard.pictures import Pictures
from benchmark.leaderboard.writing import write_board
from benchmark.predictions.file import Run
from benchmark.report.content import build_report
from benchmark.report.grid import Entry, build_grid
from benchmark.report.grid_files import write_grid
from benchmark.report.html_page import PRINTED
from benchmark.report.many import side_by_side
from benchmark.report.many_files import write_many
from benchmark.report.writing import write_report
from mgll.evaluation.embedding import Embedding
from mgll.evaluation.evaluation import Evaluation
from mgll.evaluation.reading import Reading
from mgll.tower.curve import Curve
from mgll.vocabulary.diseases import FUNDUS

pytestmark = pytest.mark.slow

SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def pages(coloured_cases, tmp_path_factory) -> dict[str, Path]:
    """Every kind of page that there is."""
    folder, cases = tmp_path_factory.mktemp("pages"), coloured_cases(48)
    host, graft = run_about(cases, "host", 2), run_about(cases, "graft", 3)
    blank = Run({**graft.header, "images": "blank"}, graft.predictions)
    found = {
        "two runs": write_report(folder / "two", build_report(cases, graft, host, blank, paper="llava")),
        "one run": write_report(folder / "one", build_report(cases, graft)),
    }
    made = {name: written["report.html"] for name, written in found.items()}
    entries = [
        Entry("llava", tower, seed, {"own": run_about(cases, f"{tower} {seed}", 2 + seed + len(tower) % 3)})
        for tower in ("untouched", "random", "mgll")
        for seed in (0, 1)
    ]
    broken = Entry("llava", "mgll", 2, {}, "no such tower file")
    made["table 2"] = write_grid(folder, build_grid(cases, [*entries, broken], "untouched", "own"), {})[0]
    random, truth = np.random.default_rng(0), np.arange(80).reshape(40, 2) % 3 == 0
    names = tuple(f"{number}.png" for number in range(40))
    scores = random.normal(size=(2, 40, 2)) + np.array([0.0, 2.0])[:, None, None] * truth
    towers = {}
    for method, own in zip(("random", "mgll"), scores, strict=True):
        probe = Reading("probe", ("DR", "AMD"), names, tuple(("", name) for name in names), truth, own)
        towers[method] = [Evaluation(method, method, {"probe": probe}, {}, 0.1, ())]
    places = Embedding(random.random((40, 2)).astype(np.float32), ("DR", "AMD") * 20, ("one",) * 40, 40)
    pictures = Pictures({"eyes": {"mgll": places}}, {"mgll": [Curve((1, 2), {"loss": (3.0, 1.0)})]})
    several = {
        "host": [host],
        "graft": [graft, run_about(cases, "graft 1", 4)],
        "other": [run_about(cases, "other", 5)],
    }
    write_many(folder / "many", side_by_side(cases, several))
    made["runs"] = folder / "many" / "runs.html"
    made["leaderboard"] = write_board(folder / "board", build_board({"eyes": towers}), pictures)
    return made


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["two runs", "one run", "table 2", "leaderboard", "runs"])
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


def test_a_report_of_many_classes_with_long_names_prints_to_two_pages(browser, coloured_cases, tmp_path):
    """More classes than are printed, in four runs with controls: what is left out is said."""
    classes = list(FUNDUS.classes)[: PRINTED + 6]
    cases = []
    for number, case in enumerate(coloured_cases(3 * len(classes))):
        codes = tuple(classes[(number + step) % len(classes)] for step in range(4))
        names = tuple(FUNDUS.classes[code].name for code in codes)
        given = {
            "code": codes[0],
            "option_codes": codes,
            "options": names,
            "answer": 0,
            "source": f"source {number % 2}",
        }
        cases.append(case.model_copy(update=given))
    graft, host = ("a " + name + " with a name that is long enough to need a second line" for name in ("graft", "host"))
    after, before = (
        [run_about(cases, name, wrong, model_sha256=f"{name} {wrong}") for wrong in (2, 3)] for name in (graft, host)
    )
    controls = {
        role: Run({**after[0].header, "images": shown}, after[0].predictions)
        for role, shown in {"blind": "blank", "shuffled": "shuffled", "source": "source", "border": "border"}.items()
    }
    report = build_report(cases, after, before, draws=100, paper="llava", **controls)
    written = write_report(tmp_path, report, images=False)["report.html"]
    assert printed_pages(browser, written) == 2
    assert f"The {PRINTED} most frequent of {len(classes)} classes are printed" in written.read_text()
