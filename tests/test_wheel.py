"""The wheel alone, in an environment that knows nothing of this repository: everything that is typed works."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PARTS = ("mgll", "mllm_adapters", "benchmark", "recipes", "pyproject.toml", "setup.py", "README.md", "LICENSE")
Run = Callable[..., str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `python -m build` makes of the source distribution that it makes first."""
    copy = tmp_path_factory.mktemp("source")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, copy / part)
    build = [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", str(copy)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (made,) = (copy / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a program of a fresh environment with the wheel; the libraries it needs are those of this one."""
    place = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], check=True)
    (packages,) = (place / "venv").glob("lib/python*/site-packages")
    # Of a folder that is named in a .pth file no further .pth file is read: this repository's own, if linked, stays unknown.
    (packages / "libraries.pth").write_text(f"{Path(torch.__file__).parents[1]}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(place / "venv" / "bin" / "python"), "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", "--force-reinstall", str(wheel)], check=True)
    (place / "work").mkdir()
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def typed(program: str, *words: str) -> str:
        command = [str(place / "venv" / "bin" / program), *words]
        done = subprocess.run(
            command, cwd=place / "work", env=surroundings, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stderr[-2000:]}"
        return done.stdout

    return typed


@pytest.mark.slow
def test_the_wheel_holds_recipes_and_settings_and_no_relative_link(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        names = set(files.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        said = message_from_bytes(files.read(metadata))
    tracked = [path for path in (ROOT / "recipes").rglob("*") if path.suffix in (".py", ".yaml", ".json")]
    assert {path.relative_to(ROOT).as_posix() for path in tracked} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]
    text = str(said.get_payload())
    assert text.startswith("# MGLL-graft")
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", text) == []
    assert said["Description-Content-Type"] == "text/markdown"


def test_links_of_the_readme_lead_to_the_repository_once_it_is_named(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, tmp_path)
    settings = (tmp_path / "pyproject.toml").read_text(encoding="utf-8")
    assert "\n# [project.urls]\n# Repository = " in settings or "\n[project.urls]\n" in settings
    made_up = '\n[project.urls]\nRepository = "https://example.org/us/graft"\n'
    (tmp_path / "pyproject.toml").write_text(
        re.sub(r"\n\[project.urls\]\n(?:\w.*\n)*", "", settings) + made_up, "utf-8"
    )
    made = "from setuptools import build_meta; build_meta.prepare_metadata_for_build_wheel('.')"
    subprocess.run([sys.executable, "-c", made], cwd=tmp_path, check=True, capture_output=True)
    (metadata,) = tmp_path.glob("*.dist-info/METADATA")
    said = message_from_bytes(metadata.read_bytes())
    text, at = str(said.get_payload()), f"v{said['Version']}"
    assert f"](https://example.org/us/graft/raw/{at}/docs/report.png)" in text
    assert f"[docs/hosts.md](https://example.org/us/graft/blob/{at}/docs/hosts.md)" in text
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", text) == []
    assert said["Project-URL"] == "Repository, https://example.org/us/graft"


@pytest.mark.slow
def test_everything_is_reached_from_the_wheel_alone(run: Run, wheel: Path) -> None:
    where = run("python", "-c", "import mgll, recipes; print(mgll.__file__, recipes.__file__)")
    assert str(ROOT) not in where
    assert "pretrain a vision tower" in run("mgll", "--help")
    assert run("mgll", "--version").strip() == wheel.name.split("-")[1]
    assert "recipes/configs/zero2.json" in run("mgll", "configs", "zero2.json")
    assert "vit-large-14" in run("mgll", "pretrain", "--config", "recipes/configs/paper_fundus.yaml", "--print_config")
    assert "internvl" in run("python", "-m", "mllm_adapters.swap", "--list")
    run("mgll", "synthetic", "--out", "eyes", "--count", "60", "--size", "32", "--workers", "1")
    run("mgll", "cases", "build", "--manifest", "eyes/manifest.jsonl", "--out", "c.jsonl", "--min-images", "1")
    assert "the chain works on this machine" in run("mgll", "demo", "--quick")
    said = run("mgll", "score", "--model", "constant:A", "--cases", "c.jsonl", "--out", "scores")
    assert "report.html" in said
