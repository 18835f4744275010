"""The site of docs/ builds offline without a warning, fetches nothing from elsewhere, and its reference has every public name."""

import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

import benchmark
import mgll
import mgll.evaluation
import mllm_adapters

ROOT = Path(__file__).parents[1]
FACES = {"mgll": mgll, "evaluation": mgll.evaluation, "mllm_adapters": mllm_adapters, "benchmark": benchmark}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    recipe = re.search(r"^docs:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe
    typed = recipe[1].replace("$(BIN)", str(Path(sys.executable).parent)).replace("$$", "$")
    typed = typed.replace("build --strict", f"build --strict --site-dir {out}").replace("build/site", str(out))
    done = subprocess.run(["sh", "-ec", typed], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return out


def test_each_tutorial_is_a_notebook_too(site: Path) -> None:
    pages = {page.stem for page in (ROOT / "docs" / "tutorials").glob("*.md")}
    assert {page.stem for page in (site / "tutorials").glob("*.ipynb")} == pages


@pytest.mark.parametrize("page", FACES)
def test_the_reference_has_every_public_name(site: Path, page: str) -> None:
    html = (site / "reference" / f"{page}.html").read_text(encoding="utf-8")
    face = FACES[page]
    public = {name for name in face.__all__ if isinstance(getattr(face, name), type | FunctionType)}
    assert {name for name in public if f'id="{face.__name__}.{name}"' not in html} == set()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    fetched = re.compile(r'<(?:script|img|link)[^>]* (?:src|href)="?(?:https?:)?//[^">]+')
    assert {page.name: fetched.findall(page.read_text(encoding="utf-8")) for page in site.rglob("*.html")} == {
        page.name: [] for page in site.rglob("*.html")
    }
