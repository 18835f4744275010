"""Every command: a sentence for each flag, examples as typed, one line for a mistake, and nothing heavy imported for any of it."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
from test_rooms import OLD_NAMES, ROOT

from mgll.__main__ import COMMANDS
from mgll.commandline import parse_settings
from mgll.flags import as_typed, names_of, typed
from mgll.readers.__main__ import READERS

#: Each takes a second or more to import; help and mistakes need none of them.
HEAVY = ("torch", "transformers", "pandas", "sklearn", "statsmodels", "scipy.stats", "matplotlib")
#: Run by the package itself, in a process of its own.
OWN_HELPERS = {"mgll.images.gdcm_jpeg", "mgll.__main__"}
PLACES = {name: place.partition(":")[0] for group in COMMANDS.values() for name, (place, _) in group.items()}
TYPED = [[name] for name in PLACES] + [["read", name] for name in READERS] + [["manifest", "group"]]
TYPED += [["cases", "build"], ["cases", "validate"]]
RUN_ALL = """
import contextlib, io, json, sys
from mgll.__main__ import main
said = {}
for command in json.loads(sys.argv[1]):
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            status = main(command)
        except SystemExit as end:
            status = end.code
    said[" ".join(command)] = (status, out.getvalue(), error.getvalue())
print(json.dumps({"said": said, "modules": list(sys.modules)}))
"""


@dataclass(frozen=True)
class Repeated:
    """Settings of which two take several values.

    Attributes:
        seeds: of the runs.
        quick: whether to hurry.
        sides: of the comparison, or None.
    """

    seeds: tuple[int, ...] = (0,)
    quick: bool = False
    sides: tuple[int, ...] | None = None


Said = dict[str, tuple[int, str, str]]


def run_all(commands: list[list[str]]) -> tuple[Said, list[str]]:
    """What each command said, one after the other in a fresh process, and the modules that this took."""
    command = [sys.executable, "-c", RUN_ALL, json.dumps(commands)]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    return found["said"], found["modules"]


@pytest.fixture(scope="module")
def helped() -> tuple[Said, list[str]]:
    return run_all([[*command, "--help"] for command in TYPED])


def scripts() -> set[str]:
    files = [
        path for folder in ("mgll", "mllm_adapters", "benchmark", "recipes") for path in (ROOT / folder).rglob("*.py")
    ]
    run = [path for path in files if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in run}


def test_every_command_has_a_name_of_mgll() -> None:
    named = {*PLACES.values(), *(module for module, _ in READERS.values())}
    missing = scripts() - named - OLD_NAMES.keys() - OWN_HELPERS
    assert not missing, f"give these a line in COMMANDS of mgll/__main__.py: {', '.join(sorted(missing))}"
    assert named <= scripts()


def test_every_flag_has_a_sentence(helped: tuple[Said, list[str]]) -> None:
    for command, (status, text, error) in helped[0].items():
        assert (status, error) == (0, ""), command
        assert text.startswith("usage: mgll"), command
        for entry in re.finditer(
            r"^  (-[^\n]*|[a-z_]+|[A-Z]+)(?:  +([^\n]*))?\n((?: {8}[^\n]*\n)*)", text, re.MULTILINE
        ):
            flag, sentence = entry[1], (entry[2] or entry[3]).strip()
            if command.split()[0] not in ("read",) or flag.startswith("-"):
                assert re.match(r"[^(\s]", sentence), f"{command}: {flag} has no sentence"
            assert "_" not in flag.partition(" ")[0], f"{command}: {flag} is shown with an underscore"


def test_examples_are_shown_as_they_are_typed(helped: tuple[Said, list[str]]) -> None:
    shown = 0
    example = re.compile(r"^    (?:python|accelerate|mgll) .*$", re.MULTILINE)
    for name, module in PLACES.items():
        with typed(f"mgll {name}", [], names_of(PLACES)):
            examples = example.findall(as_typed(import_module(module).__doc__ or ""))
        assert [line for line in examples if line not in helped[0][f"{name} --help"][1]] == [], name
        shown += len(examples)
    assert shown > 20
    scripts = re.compile(r"(?:python|launch) (?:recipes|benchmark)/\w+\.py")
    assert {command: found for command, (_, said, _) in helped[0].items() if (found := scripts.findall(said))} == {}


def test_help_takes_nothing_heavy(helped: tuple[Said, list[str]]) -> None:
    assert [name for name in HEAVY if name in helped[1]] == []


def test_a_mistyped_flag_gives_one_line_that_names_the_right_one() -> None:
    mistakes = {
        ("cases", "build", "--min-image", "5", "--manifest", "m", "--out", "o"): "--min-images",
        ("pretrain", "--epoch", "3"): "--epochs",
        ("pretrain", "--objective", "mgl"): "mgll",
        ("pretrain", "--objective_settings.sclp", "1"): "objective_settings.sclip",
        ("score", "--modell", "x"): "--model",
        ("swap", "--model", "lava", "--encoder", "e"): "llava",
        ("compare_tower",): "compare-towers",
        ("read", "foldercsv"): "folder-csv",
        ("table2", "--seed", "1"): "--seeds",
        ("synthetic", "--contact_sheets", "x"): "--contact-sheet",
    }
    said, modules = run_all([list(words) for words in mistakes])
    for words, meant in mistakes.items():
        status, out, error = said[" ".join(words)]
        assert (status, out) == (2, ""), words
        assert error.count("\n") == 1
        assert f"did you mean {meant}?" in error
    assert [name for name in HEAVY if name in modules] == []


def test_every_command_refuses_a_flag_that_there_is_not_in_one_line() -> None:
    commands = [
        [*command, "--no-such_flag", "1"] for command in TYPED if command not in (["read"], ["manifest"], ["cases"])
    ]
    said, _ = run_all(commands)
    for command, (status, _, error) in said.items():
        assert status == 2, command
        assert error.startswith("error: "), command
        assert error.count("\n") == 1, command


def test_both_spellings_of_a_flag_are_taken(tmp_path: Path) -> None:
    for spelling in ("--min-images", "--min_images"):
        out = str(tmp_path / spelling)
        said, _ = run_all([["cases", "build", "--manifest", "none.jsonl", "--out", out, spelling, "7"]])
        assert next(iter(said.values())) == [1, "", "error: none.jsonl: no such file\n"]


@pytest.mark.parametrize("typed", ["--seeds 3,1", "--seeds=3,1", "--seeds 3 1", "--seeds [3,1]"])
def test_several_values_are_written_as_people_write_them(typed: str) -> None:
    settings = parse_settings(Repeated, "", [*typed.split(), "--quick", "--sides", "2"])
    assert settings == Repeated((3, 1), True, (2,))


def test_a_switch_may_have_its_value() -> None:
    assert parse_settings(Repeated, "", ["--quick", "false"]) == Repeated()
    assert parse_settings(Repeated, "", ["--quick=true", "--sides", "null"]) == Repeated((0,), True, None)


def test_a_wrong_path_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    there = tmp_path / "there.jsonl"
    there.write_text('{"schema": "mgll.manifest/1"}\n', encoding="utf-8")
    image, none, out = str(tmp_path / "none.png"), str(tmp_path / "none"), str(tmp_path / "out")
    commands = {
        "manifest": [
            ["pretrain", "--manifest", none, "--out", out],
            ["probe", none, "--manifest", str(there)],
            ["evaluate", none, "--manifest", none, "--out", out],
            ["compare-towers", "--manifest", none, "--out", out],
            ["ablation", "ablations/table3_loss_terms.yaml", "--manifest", none, "--out", out],
            ["objective-study", "--config", "objective_study.yaml", "--manifest", none, "--out", out],
            ["table2", "--config", "table2_toy.yaml", "--manifest", none, "--out", out],
            ["questions", "--manifest", none, "--out", out],
            ["check-encoders", "--manifest", none, "--out", out],
        ],
        "model": [
            ["finetune", "--model", none, "--cases", str(there), "--out", out],
            ["score", "--model", none, "--cases", "demo", "--out", out],
            ["ask", none, "--image", image, "what?"],
            ["swap", "--model", "llava", "--encoder", none, "--checkpoint", "demo", "--out", out],
        ],
        "other files": [
            ["pretrain", "--manifest", str(there), "--start-weights", none, "--out", out],
            ["finetune", "--model", str(tmp_path), "--cases", none, "--out", out],
            ["ask", str(tmp_path), "--image", none, "what?"],
            ["score", "--model", "constant:A", "--cases", none, "--out", out],
            ["report", "--after", none, "--cases", none, "--out", out],
        ],
    }
    said, modules = run_all([command for group in commands.values() for command in group])
    for command, (status, text, error) in said.items():
        assert (status, text) == (1, ""), command
        assert f"error: {none}" in error.splitlines()[-1], command
        assert len([line for line in error.splitlines() if "comes with the package" not in line]) == 1, command
    assert "torch" not in modules
    assert not Path(out).exists() or not [
        path for path in Path(out).rglob("*") if path.is_file() and path.suffix != ".lock"
    ]


def test_what_makes_no_sense_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    manifest, out = tmp_path / "there.jsonl", str(tmp_path / "out")
    manifest.write_text('{"schema": "mgll.manifest/1"}\n', encoding="utf-8")
    there, grid = str(manifest), ["table2", "--manifest", str(manifest), "--out", out]
    mistakes = {
        "epochs is -1; give a number from 1 on": ["pretrain", "--manifest", there, "--out", out, "--epochs", "-1"],
        "batch_size is 0; give a number from 1 on": ["pretrain", "--manifest", there, "--batch-size", "0"],
        "flip is 1.5; give a number from 0 to 1": ["pretrain", "--manifest", there, "--flip", "1.5"],
        "held_out is 2.0; give": ["finetune", "--model", out, "--cases", there, "--held_out", "2.0"],
        "train_count is -3; give a number from 1 on": [
            "questions",
            "--manifest",
            there,
            "--out",
            out,
            "--train-count",
            "-3",
        ],
        "finetune.steps is 0; give": [*grid, "--hosts", "llava=demo", "--finetune.steps", "0"],
        f"{tmp_path}: this is a folder; name a file": ["pretrain", "--manifest", str(tmp_path), "--out", out],
        "no host is called 'lava'": [*grid, "--hosts", "lava=demo"],
        f"checkpoint {there}: this is a file": [*grid, "--hosts", f"llava={there}"],
        "checkpoint no/such/folder: no such folder": [*grid, "--hosts", "llava=no/such/folder"],
        "none.ckpt: no such file": [*grid, "--hosts", "llava=demo", "--towers", "own", "mine=none.ckpt"],
        "x.pth: no such file": [*grid, "--hosts", "llava=demo", "--towers", "mine=retfound:x.pth"],
        "there is no layout retfund; did you mean retfound?": [
            "swap",
            "--model",
            "llava",
            "--encoder",
            "retfund:x.pth",
        ],
        "a name alone brings no weights": ["swap", "--model", "llava", "--encoder", "timm:vit_base_patch16_224"],
        f"{there}: this is a file; name the folder": ["score", "--model", there, "--cases", "demo"],
        "constant:E: the letter must be one of": ["score", "--model", "constant:E", "--cases", "demo"],
        f"{tmp_path}: no config.json in it": ["ask", str(tmp_path), "--image", there, "what?"],
        'must be a header with "schema": "mgll.cases/1"': ["finetune", "--model", str(tmp_path), "--cases", there],
    }
    said, modules = run_all(list(mistakes.values()))
    for meant, words in mistakes.items():
        status, text, error = said[" ".join(words)]
        assert (status, text) == (1, ""), words
        assert meant in error
        assert error.count("\n") == 1
    assert "torch" not in modules
    assert not Path(out).exists()
