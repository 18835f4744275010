"""The page in a real browser: filters, both themes, narrow and wide, no error, nothing fetched."""

from pathlib import Path

import pytest
from oracle import Oracle, pixel_hash

from benchmark.cases.images import open_case_image
from benchmark.predictions.batches import Asking
from benchmark.predictions.scoring import score_cases
from benchmark.report.case_browser import outcomes
from benchmark.report.writing import report_runs

pytestmark = pytest.mark.slow

MUTTERED = "I can't say </script><b>what</b> this is."


class Muttering(Oracle):
    """Errs at every so-manieth case and mutters about every fifth."""

    def __init__(self, cases, name: str, wrong_every: int) -> None:
        answers = {}
        for number, case in enumerate(cases):
            chosen = case.answer if number % wrong_every else (case.answer + 1) % 4
            answers[pixel_hash(open_case_image(case)), case.question] = case.options[chosen]
        super().__init__(answers)
        self.name = f"{name} with a name that is long enough to need a second line"
        self._mute = {pixel_hash(open_case_image(case)) for case in cases[::5]}

    def score(self, asks, views):
        return [
            [score._replace(text=MUTTERED) if pixel_hash(ask.image) in self._mute else score for score in scores]
            for ask, scores in zip(asks, super().score(asks, views), strict=True)
        ]


@pytest.fixture(scope="module")
def reported(coloured_cases, tmp_path_factory):
    """Report of two runs of which the first errs at every second case, the second at every third, with a blind run."""
    folder, cases = tmp_path_factory.mktemp("report"), coloured_cases(48)
    asking = Asking(rotations=4, views=("letter", "text", "option"))
    score_cases(cases, Muttering(cases, "host", 2), folder / "host", asking)
    score_cases(cases, Muttering(cases, "graft", 3), folder / "graft", asking)
    blind = Asking(rotations=4, views=("letter", "text", "option"), images="blank")
    score_cases(cases, Muttering(cases, "graft", 3), folder / "blind", blind)
    made = report_runs(folder / "report", cases, folder / "graft", folder / "host", folder / "blind", paper="llava")
    return folder, made


@pytest.fixture
def opened(browser, reported):
    """A function that opens the page and returns it; checks at the end that nothing was fetched or went wrong."""
    page_file: Path = reported[0] / "report" / "report.html"
    contexts, fetched, errors = [], [], []

    def open_page(width: int = 1440, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("request", lambda request: fetched.append(request.url))
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert [url for url in fetched if not url.startswith(("data:", page_file.as_uri()))] == []


def shown(page) -> list[tuple[str, str]]:
    """(class code, outcome) of the cases on all pages that can be turned up."""
    found = []
    while True:
        found += page.locator(".case").evaluate_all("cases => cases.map(c => [c.dataset.code, c.dataset.outcome])")
        following = page.get_by_role("button", name="Next").first
        if not following.is_visible() or following.is_disabled():
            return [tuple(item) for item in found]
        following.click()


def test_filters_by_class_and_by_what_became_of_the_answer(opened, reported):
    page, report = opened(), reported[1]
    everything = [(case.code, outcome) for case, outcome in zip(report.cases, outcomes(report), strict=True)]
    assert page.locator(".case").count() == 24
    assert page.get_by_role("status").inner_text() == "1 to 24 of 48"
    assert shown(page) == everything
    for outcome in ("fixed", "broken", "both-right", "both-wrong"):
        page.get_by_text(f"{outcome.replace('-', ' ').capitalize()} (").click()
        expected = [item for item in everything if item[1] == outcome]
        assert expected
        assert shown(page) == expected
        assert page.get_by_role("status").inner_text() == f"1 to {len(expected)} of {len(expected)}"
    page.get_by_text("All", exact=True).click()
    page.get_by_role("combobox", name="Disease", exact=True).select_option(label="Glaucoma (8)")
    assert shown(page) == [item for item in everything if item[0] == "Glaucoma"]
    page.locator("input[value=fixed]").focus()
    page.keyboard.press("Space")
    both = [item for item in everything if item == ("Glaucoma", "fixed")]
    assert 0 < len(both) < 8
    assert shown(page) == both


def test_filters_by_source_reply_and_id(opened, reported):
    page, report = opened(), reported[1]
    page.get_by_role("combobox", name="Source").select_option(label="second (16)")
    assert len(shown(page)) == sum(case.source == "second" for case in report.cases) == 16
    page.get_by_role("combobox", name="Source").select_option("")
    page.get_by_role("combobox", name="Only").select_option(label="Reply names no option (10)")
    assert len(shown(page)) == 10
    assert MUTTERED in page.locator(".case").first.inner_text()
    page.get_by_role("searchbox", name="Question").fill("CASE-04")
    assert page.locator(".case .kind").all_inner_texts() == ["Fixed · case-040", "Broken · case-045"]
    page.get_by_role("searchbox", name="Question").fill("no such case")
    assert page.get_by_text("No question matches all filters.").is_visible()
    assert page.get_by_role("status").inner_text() == "0 questions"


def test_orders_by_gain_and_by_confidence(opened, reported):
    page = opened()
    page.get_by_role("combobox", name="Order").select_option(label="Largest gains first")
    order = [outcome for _, outcome in shown(page)]
    assert order[: order.count("fixed")] == ["fixed"] * order.count("fixed")
    page.get_by_role("combobox", name="Order").select_option(label="Surest mistakes first")
    wrong = [outcome for _, outcome in shown(page)]
    assert set(wrong[:16]) == {"broken", "both-wrong"}
    assert not {"broken", "both-wrong"} & set(wrong[16:])


def test_a_case_shows_image_options_and_both_answers(opened, reported):
    page, report = opened(), reported[1]
    item, case = page.locator(".case").nth(1), report.cases[1]
    assert item.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 30
    assert item.locator(".text").all_inner_texts() == list(case.options)
    assert item.locator(".true .text").inner_text() == case.options[case.answer]
    for side, answers in report.answers.items():
        if side in ("before", "after"):
            picked = int(answers.picked(answers.primary)[1])
            bar = item.locator(".options > li").nth(picked).locator(f".{side}.chosen")
            assert bar.inner_text().split()[0] == "97.0"
    assert item.locator(".chosen").count() == 2
    letter = "ABCD"[case.answer]
    facts = item.locator(".facts").inner_text()
    assert f"Orders after\n{letter} 4" in facts
    assert f"Words after\n“{letter}”: {letter} 4" in facts


def test_only_one_page_of_cases_is_in_the_document(opened):
    page = opened()
    assert page.evaluate("document.querySelectorAll('.case').length") == 24
    page.get_by_role("button", name="Next").first.click()
    assert page.get_by_role("status").inner_text() == "25 to 48 of 48"
    assert page.get_by_role("button", name="Next").first.is_disabled()


def test_the_plots_have_the_figures_where_they_belong(opened, reported):
    page, report = opened(), reported[1]
    rows = page.locator(".plot .row:not(.axis)").all()
    assert [row.locator(".n").inner_text().split()[0] for row in rows] == ["8"] * 6 + ["48", "6"]
    chart = rows[0].locator("svg").bounding_box()
    share = next(iter(report.after.classes.values()))
    dot = rows[0].locator(".after-mark circle").bounding_box()
    assert (dot["x"] + dot["width"] / 2 - chart["x"]) / chart["width"] == pytest.approx(share.accuracy, abs=0.01)
    square = page.locator(".square svg").bounding_box()
    dots = page.locator(".square .after-mark circle").all()
    table = report.after.calibration.reliability
    assert len(dots) == len(table)
    for dot, (confidence, accuracy) in zip(
        dots, table[["confidence", "accuracy"]].itertuples(index=False), strict=True
    ):
        box = dot.bounding_box()
        assert (box["x"] + box["width"] / 2 - square["x"]) / square["width"] == pytest.approx(confidence, abs=0.01)
        assert (box["y"] + box["height"] / 2 - square["y"]) / square["height"] == pytest.approx(1 - accuracy, abs=0.01)


def test_the_matrix_counts_who_is_taken_for_whom(opened, reported):
    page, confusion = opened(), reported[1].confusions["after"]
    page.get_by_text("All pairs, after").click()
    cells = page.get_by_role("region", name="All pairs after").locator("td[title]")
    assert cells.count() == int((confusion.offered > 0).sum())
    true, other = confusion.mistakes()[0]
    row, column = confusion.codes.index(true), confusion.codes.index(other)
    expected = f": {confusion.chosen[row, column]} of {confusion.offered[row, column]}"
    assert any(title.endswith(expected) for title in cells.evaluate_all("cells => cells.map(c => c.title)"))


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_nothing_runs_out_of_the_window(opened, width):
    page = opened(width)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = page.evaluate(
        "[...document.querySelectorAll('h1, h2, p, dd, .label:not(th, td), .case, .choices span, .scroll, nav a, select')]"
        ".filter(e => e.offsetParent && e.getBoundingClientRect().right > innerWidth + 0.5).length"
    )
    assert cut == 0


@pytest.mark.parametrize("width", [390, 1440])
def test_names_of_200_letters_run_out_of_nothing(browser, coloured_cases, tmp_path, width):
    cases = [
        case.model_copy(update={"source": f"{number % 2}" + "s" * 199})
        for number, case in enumerate(coloured_cases(24))
    ]
    for side, every in (("host", 2), ("graft", 3)):
        scorer = Muttering(cases, side, every)
        scorer.name = side + "m" * 195
        score_cases(cases, scorer, tmp_path / side)
    report_runs(tmp_path / "report", cases, tmp_path / "graft", tmp_path / "host")
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto((tmp_path / "report" / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    figures = page.evaluate(
        "[...document.querySelectorAll('.scroll')].map(e => [e.querySelector('th[scope=row]').offsetWidth, e.offsetWidth])"
    )
    assert all(name < 0.75 * table for name, table in figures), figures
    context.close()


def test_text_is_readable_in_both_themes(opened):
    """WCAG AA: contrast of at least 4.5 between each text and what it stands on, light and dark."""
    for scheme in ("light", "dark"):
        page = opened(scheme=scheme)
        for summary in page.locator("summary").all():
            summary.click()
        found = page.evaluate("""() => {
          const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
          const page = getComputedStyle(document.body).backgroundColor;
          const light = (...layers) => {
            canvas.clearRect(0, 0, 1, 1);
            for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(v => v / 255)
              .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const seen = {};
          for (const e of document.querySelectorAll('main *, footer')) {
            const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
            if (!own || !e.offsetParent || e.closest('button:disabled, option')) continue;
            const style = getComputedStyle(e);
            const back = light(page, style.backgroundColor), text = light(page, style.backgroundColor, style.color);
            const ratio = (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
            const name = e.tagName + '.' + e.className;
            seen[name] = Math.min(seen[name] ?? 99, ratio);
          }
          return seen;
        }""")
        assert len(found) > 20
        assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}, scheme


def test_without_javascript_the_figures_are_there(browser, reported):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((reported[0] / "report" / "report.html").as_uri())
    assert page.locator("noscript p").is_visible()
    assert page.get_by_role("region", name="Results by disease").is_visible()
    assert not page.locator(".filters").is_visible()
    context.close()
