"""Cases about small coloured images, enough to run everything between cases and report for real, and a browser for its pages."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cases.case import Case, write_cases
from mgll.files import sha256
from mgll.vocabulary.diseases import diseases
from mgll.vocabulary.questions import QUESTIONS

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
CODES = ("Health", "DR", "AMD", "Glaucoma", "Myopia", "Cataract")


@pytest.fixture(scope="session")
def coloured_cases(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Case]]:
    """A function that makes cases: sizes vary, answer positions are balanced, two cases a patient, two sources."""

    def make(count: int = 48, folder: Path | None = None) -> list[Case]:
        folder = folder or tmp_path_factory.mktemp("coloured")
        generator = np.random.default_rng(7)
        cases = []
        for number in range(count):
            code = CODES[number // 4 % len(CODES)]
            others = [str(other) for other in generator.permutation([other for other in CODES if other != code])[:3]]
            codes = (*others[: number % 4], code, *others[number % 4 :])
            size = (int(generator.integers(40, 90)), int(generator.integers(40, 90)))
            colour = tuple(int(value) for value in generator.integers(0, 255, 3))
            path = folder / f"eye{number:03d}.png"
            Image.new("RGB", size, colour).save(path)
            cases.append(
                Case(
                    id=f"case-{number:03d}",
                    image=str(path),
                    image_sha256=sha256(path),
                    group=f"patient-{number // 2}",
                    source="first" if number % 3 else "second",
                    question=QUESTIONS[number % 3],
                    options=tuple(diseases()[code].name for code in codes),
                    option_codes=codes,
                    answer=number % 4,
                    code=code,
                )
            )
        return cases

    return make


@pytest.fixture(scope="session")
def cases_file(coloured_cases: Callable[..., list[Case]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file."""
    folder = tmp_path_factory.mktemp("cases")
    write_cases(folder / "cases.jsonl", coloured_cases(48, folder))
    return folder / "cases.jsonl"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()
