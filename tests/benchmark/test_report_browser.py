"""The page in a real browser: filters, both themes, narrow and wide, no error, nothing fetched."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.case_images import open_case_image
from benchmark.report import report_runs
from benchmark.scorer import Oracle, pixel_hash
from benchmark.scoring import score_cases

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def reported(coloured_cases, tmp_path_factory):
    """Report of two runs of which the first errs at every second case, the second at every third."""
    folder, cases = tmp_path_factory.mktemp("report"), coloured_cases(48)
    for name, wrong_every in (("host", 2), ("graft", 3)):
        answers = {}
        for number, case in enumerate(cases):
            chosen = case.answer if number % wrong_every else (case.answer + 1) % 4
            answers[pixel_hash(open_case_image(case)), case.question] = case.options[chosen]
        scorer = Oracle(answers)
        scorer.name = f"{name} with a name that is long enough to need a second line"
        score_cases(cases, scorer, folder / name)
    return folder, report_runs(folder / "report", cases, folder / "graft", folder / "host")


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


def visible(page) -> list[tuple[str, str]]:
    """(class code, outcome) of the cases that can be seen."""
    return [
        (item.get_attribute("data-code"), item.get_attribute("data-outcome"))
        for item in page.locator(".case").all()
        if item.is_visible()
    ]


def test_filters_by_class_and_by_what_became_of_the_answer(opened, reported):
    page, report = opened(), reported[1]
    everything = [(item.case.code, item.outcome) for item in report.shown]
    assert visible(page) == everything
    for outcome in ("fixed", "broken", "both-right", "both-wrong"):
        page.get_by_text(f"{outcome.replace('-', ' ').capitalize()} (").click()
        expected = [item for item in everything if item[1] == outcome]
        assert visible(page) == expected
        assert page.locator("#shown").inner_text() == str(len(expected))
    page.get_by_text("All", exact=True).click()
    page.get_by_role("combobox", name="Disease", exact=True).select_option("Glaucoma")
    assert visible(page) == [item for item in everything if item[0] == "Glaucoma"]
    page.locator("input[value=fixed]").focus()
    page.keyboard.press("Space")
    both = [item for item in everything if item == ("Glaucoma", "fixed")]
    assert 0 < len(both) < 8
    assert visible(page) == both


def test_a_case_shows_image_options_and_both_answers(opened, reported):
    page, item = opened(), reported[1].shown[0]
    shown = page.locator(".case").first
    assert shown.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 30
    assert shown.locator(".option, .text").all_inner_texts() == list(item.case.options)
    assert shown.locator(".true .text").inner_text() == item.case.options[item.case.answer]
    chosen = [
        shown.locator(".options > li").nth(row.chosen).locator(f".{side}.chosen").inner_text().split()[0]
        for side, row in (("before", item.before), ("after", item.after))
    ]
    assert chosen == ["97.0", "97.0"]
    assert shown.locator(".chosen").count() == 2


def test_the_plot_has_the_accuracies_where_they_belong(opened, reported):
    page, report = opened(), reported[1]
    rows = page.locator(".plot .row:not(.axis)").all()
    assert [row.locator(".n").inner_text() for row in rows] == ["8"] * 6 + ["48"]
    chart = rows[0].locator("svg").bounding_box()
    share = next(iter(report.after.classes.values()))
    dot = rows[0].locator(".after-mark circle").bounding_box()
    assert (dot["x"] + dot["width"] / 2 - chart["x"]) / chart["width"] == pytest.approx(share.accuracy, abs=0.01)


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_nothing_runs_out_of_the_window(opened, width):
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = page.evaluate(
        "[...document.querySelectorAll('h1, h2, p, dd, .label, .case, .choices span')]"
        ".filter(e => e.offsetParent && e.getBoundingClientRect().right > innerWidth + 0.5).length"
    )
    assert cut == 0


def test_text_is_readable_in_both_themes(opened):
    """WCAG AA: contrast of at least 4.5 between each text and the page, light and dark."""
    for scheme in ("light", "dark"):
        ratios = opened(scheme=scheme).evaluate("""() => {
          const light = color => {
            const [r, g, b] = color.match(/[\\d.]+/g).map(v => v / 255)
              .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const page = light(getComputedStyle(document.body).backgroundColor);
          return ['h1', '.lead', '.n', '.faint', '.kind b', '.mark', '.fixed b', '.broken b', '.bar', '.is-after .value']
            .map(s => light(getComputedStyle(document.querySelector(s)).color))
            .map(text => (Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05));
        }""")
        assert min(ratios) >= 4.5, (scheme, ratios)


def test_without_javascript_every_case_is_there(browser, reported):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((reported[0] / "report" / "report.html").as_uri())
    assert page.locator(".case").count() == 48
    assert page.locator(".case").last.is_visible()
    assert not page.locator(".filters").is_visible()
    context.close()
