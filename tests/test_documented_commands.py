"""The commands of the documents: the README's run as typed, from top to bottom; every other one has flags that its program has."""

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image
from typed_commands import commands, typed_commands

from mgll.manifest.records import read_manifest
from mgll.synthetic import generate
from mgll.vocabulary.diseases import diseases
from mllm_adapters.demo import build_tiny_host, demo_checkpoint

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
#: What the README's reader puts in, and what stands for it here.
STANDS_FOR = {"FOLDER": "eyes/images", "DIR_OR_HUB_ID": "demo-llava", "HOST": "demo-llava"}
INTERNVL = ("DIR_OR_HUB_ID", True)
#: Programs of others, and shell words, of which nothing is asked.
FOREIGN = {
    "mgll",
    "cp",
    "source",
    "pip",
    "export",
    "for",
    "do",
    "done",
    "lmms-eval",
    "sbatch",
    "cd",
    "H=llava",
    "tar",
    "scp",
}

pytestmark = pytest.mark.slow


def own_programs(command: str) -> list[tuple[tuple[str, ...], list[str]]]:
    """Our programs in a command, each with the flags that it is given: those after it, up to the end."""
    words = [word for word in shlex.split(command.replace("$(", "(")) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    if not words or words[0] in FOREIGN:
        return []
    if words[0] == "make":
        return [(("make", target), []) for target in words[1:]]
    for at, word in enumerate(words):
        flags = [other.split("=")[0] for other in words[at + 1 :] if re.match(r"--?[a-zA-Z]", other)]
        if word == "-m":
            return [(("-m", words[at + 1]), flags)] if words[at + 1].startswith(("mgll", "mllm_", "benchmark")) else []
        if word.endswith(".py"):
            return [((word.removeprefix("bench/code/"),), flags)]
    return []


@cache
def help_of(program: tuple[str, ...]) -> str:
    """What a program says to --help, that of its subcommands included."""
    asked = [sys.executable, *program, "--help"]
    environment = {**os.environ, "COLUMNS": "200"}
    said = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 0, (program, said.stderr)
    subcommands = re.search(r"^\s+\{([\w,-]+)\}", said.stdout, re.MULTILINE)
    for name in subcommands[1].split(",") if subcommands else []:
        own = subprocess.run(
            [*asked[:-1], name, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        said.stdout += own.stdout
    return said.stdout.replace("-", "_")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_flag_of_a_document_is_known(document: Path) -> None:
    unknown = []
    for command in commands(document.read_text(encoding="utf-8")):
        for program, flags in own_programs(command):
            if program[0] == "make":
                assert re.search(rf"^{program[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), (
                    command
                )
                continue
            if not (ROOT / program[-1]).is_file() and program[0] != "-m":
                continue  # made by a command before
            known = help_of(program)
            unknown += [(command, flag) for flag in flags if not re.search(rf"{flag.replace('-', '_')}\b", known)]
    assert unknown == []


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a shell in which a command need not import torch anew."""
    with typed_commands(tmp_path_factory.mktemp("typed")) as surroundings:
        yield surroundings


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn eyes, a table, a host and an image, under the names that README and docs use."""
    folder = tmp_path_factory.mktemp("desk")
    drawn = generate(folder / "eyes", 640, seed=0, size=64, progress=False)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        names = {code: disease.name for code, disease in diseases().items()}
        rows = csv.writer(file)
        rows.writerow(["file", "patient", "finding"])
        rows.writerows([Path(one.image).name, one.group, names[one.labels[0]]] for one in read_manifest(drawn))
    shutil.copytree(demo_checkpoint(str(folder / "demo")), folder / "demo-llava")
    build_tiny_host("internvl", folder / "tiny-internvl")
    Image.new("RGB", (64, 64), "brown").save(folder / "eye.jpg")
    for program in ("recipes", "benchmark"):
        (folder / program).symlink_to(ROOT / program)
    return folder


def type_all(document: Path, desk: Path, typed: dict[str, str]) -> None:
    """Type a document's commands from top to bottom, with what its reader puts in."""
    lines = [
        one for one in commands(document.read_text(encoding="utf-8")) if not one.startswith(("make", "source", "pip"))
    ]
    assert len(lines) > 5
    for line in lines:
        for word, meant in STANDS_FOR.items():
            line = re.sub(rf"\b{word}\b", "tiny-internvl" if (word, "internvl" in line) == INTERNVL else meant, line)
        run(line, desk, typed)


def test_the_readme_and_then_each_step_by_itself_run_from_top_to_bottom(desk: Path, typed: dict[str, str]) -> None:
    type_all(ROOT / "README.md", desk, typed)
    with (desk / "runs" / "table2" / "table2.csv").open(encoding="utf-8") as file:
        overall = {row["tower"]: row for row in csv.DictReader(file) if row["number"] == "overall"}
    assert {tower: row["seeds"] for tower, row in overall.items()} == {"untouched": "1", "mgll": "1"}
    assert overall["mgll"]["change_low"] < overall["mgll"]["change_high"]
    type_all(ROOT / "docs" / "step_by_step.md", desk, typed)
    assert (desk / "runs" / "graft-scores" / "report.html").is_file()


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda tutorial: tutorial.stem)
def test_a_tutorial_runs_as_a_notebook(
    tutorial: Path, tmp_path: Path, typed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = tmp_path / "tutorial.ipynb"
    run(f"jupytext --quiet --to notebook --output {notebook} {tutorial}", tmp_path, typed)
    monkeypatch.setenv("PATH", typed["PATH"])
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:.")
    cells = nbformat.read(notebook, as_version=4)
    assert sum(cell.cell_type == "code" for cell in cells.cells) > 2
    NotebookClient(cells, timeout=1200, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()


def run(command: str, folder: Path, surroundings: dict[str, str]) -> None:
    """Run a command in a folder, as a reader would type it."""
    done = subprocess.run(
        command, shell=True, cwd=folder, env=surroundings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
