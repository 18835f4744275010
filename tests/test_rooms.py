"""The plan of the house: rooms stand on floors, imports run down only, and every room's face names what exists."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: A room is a folder, or a file that lies loose at the top of its package. It may import from the floors below its own, in its own
#: package and in the packages named before it; a floor of several rooms is one on which they do not know each other.
FLOORS = {
    "mgll": (
        "files machine_errors bounds vocabulary flags plugins quiet progress device",
        "formats provenance checking kept_hashes",
        "ending",
        "images weights configs run_folder",
        "commandline",
        "manifest settings tower stage cells",
        "encoders objective synthetic readers",
        "naive_objective published training",
        "training_cost evaluation",
        "linear_probe",
        "__main__",
    ),
    "mllm_adapters": (
        "settings checkpoints",
        "contract",
        "modules prompting",
        "hosts",
        "loading demo",
        "graft finetuning hub ask export",
        "swap convert encoder_check host_cost",
    ),
    "benchmark": (
        "options replies stats fundus_hash",
        "cases",
        "paper scorers",
        "predictions",
        "harnesses report calibrate_claims grid",
        "run_mcq leaderboard maps segmentation",
    ),
}
#: What an older release called otherwise and files or habits of users still name; each goes with the next release.
OLD_NAMES = {
    "mgll.foreign_towers": "mgll.published",
    "mgll.shards": "mgll.manifest.shards",
    "benchmark.fundus_hash_calibration": "benchmark.fundus_hash.calibration",
    "benchmark.lmms_export": "benchmark.harnesses.lmms_export",
    "benchmark.vlmevalkit": "benchmark.harnesses.vlmevalkit",
    "benchmark.lmms_eval_model": "benchmark.harnesses.lmms_eval_model",
    "benchmark.lmms_eval_tasks": "benchmark.harnesses.lmms_eval_tasks",
}
PACKAGES = list(FLOORS)
LEVEL = {
    f"{package}.{room}": (order, floor)
    for order, (package, floors) in enumerate(FLOORS.items())
    for floor, rooms in enumerate(floors)
    for room in rooms.split()
}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
FACES = [name.removesuffix(".__init__") for name in FILES if name.endswith(".__init__")]


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every own module that a file imports, at its top, in a function or for types, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: imports are absolute"
            names = [
                f"{node.module}.{name}" if f"{node.module}.{name}" in FILES else str(node.module) for name in names
            ]
        yield from ((node.lineno, name) for name in names if name.split(".")[0] in PACKAGES)


@pytest.mark.parametrize("module", FILES)
def test_imports_run_down(module: str) -> None:
    own = room(module)
    assert own in LEVEL or own.endswith("__init__") or module in OLD_NAMES, f"{module} stands on no floor"
    for line, target in imports(FILES[module]):
        where = f"{FILES[module].relative_to(ROOT)}:{line} imports {target}"
        assert target not in FACES, f"{where}: files import files; faces are for users"
        allowed = module in OLD_NAMES or room(target) == own or LEVEL[room(target)] < LEVEL[own]
        assert allowed, f"{where}, which does not stand on a floor below"


def test_no_files_import_each_other_in_a_circle() -> None:
    waiting = {module: {target for _, target in imports(path)} for module, path in FILES.items()}
    while free := [module for module, targets in waiting.items() if not targets & waiting.keys()]:
        for module in free:
            del waiting[module]
    assert not waiting, f"among these files imports run in a circle: {', '.join(sorted(waiting))}"


@pytest.mark.parametrize("package", FACES)
def test_every_name_of_a_face_exists(package: str) -> None:
    face = import_module(package)
    for name in getattr(face, "__all__", ()):
        assert getattr(face, name) is not None
        assert not hasattr(getattr(face, name), "__path__")
        assert f"{package}.{name}" not in FILES, f"{package}.{name} is a module too: the later import would win"


def test_the_packages_load_without_torch() -> None:
    code = f"import sys, {', '.join(PACKAGES)}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({room.split(".")[1] for room in LEVEL if room.startswith("benchmark.")}))
def test_no_room_of_the_benchmark_hides_a_library(name: str) -> None:
    """`python benchmark/run_mcq.py` puts that folder first on the path."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
    assert subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new"), OLD_NAMES.items())
def test_an_old_name_does_what_the_new_one_does(old: str, new: str) -> None:
    if "lmms_eval" in old:
        public = {name for name in vars(import_module(new)) if not name.startswith("_")}
        assert {getattr(import_module(old), name) is getattr(import_module(new), name) for name in public} == {True}
        return
    ran = [subprocess.run([sys.executable, "-m", name, "--help"], cwd=ROOT, capture_output=True) for name in (old, new)]
    assert ran[0].returncode == ran[1].returncode == 0
    assert ran[0].stdout == ran[1].stdout
    assert new.encode() in ran[0].stderr
