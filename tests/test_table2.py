"""Table 2 in one command: cells are made once, whatever kills or shares the work, and what fails stays in its cell."""

import json
import os
import random
import time

import launches
import pytest
import yaml
from table2_kills import RECIPE, differing, kill_in, noise_manifest

from benchmark.predictions.file import read_run

TABLE = ("table2.html", "table2.csv", "table2.tex")
#: Cells that fail: the last tower's, of which there is no file.
CELLS = ["untouched", "own", "random", "broken"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """One tiny host and four towers, of which one is missing, on small images of noise."""
    folder = tmp_path_factory.mktemp("table2")
    settings = {
        "manifest": str(noise_manifest(folder)),
        "out": "run",
        "seeds": [0],
        "towers": ["own", "random", f"broken={folder}/not-there-{{seed}}.ckpt"],
        "train_questions": 16,
        "test_questions": 16,
        "batch_size": 8,
        "standardise": False,
        "pretrain": {"encoder": "vit-tiny-16", "image_size": 32},
        "finetune": {"rank": 0, "steps": 2, "batch_size": 8, "checkpoint_every": 1, "log_every": 1},
        "hosts": [{"host": "llava", "checkpoint": "tiny", "tokens": "pooled"}],
    }
    (folder / "table2.yaml").write_text(yaml.safe_dump(settings))
    return folder / "table2.yaml"


@pytest.fixture(scope="module")
def undisturbed(config):
    """The folder of a run that nothing disturbed, and what it said."""
    out = config.parent / "undisturbed"
    return out, launches.run([RECIPE, "--config", config, "--out", out])


@pytest.mark.slow
def test_a_failing_cell_is_shown_and_the_others_go_on(undisturbed):
    out, said = undisturbed
    assert said.returncode == 1
    assert "not-there-0.ckpt" in said.stderr
    failed = out / "cells" / "llava" / "broken" / "seed-0.failed.txt"
    assert "no such tower file" in failed.read_text().splitlines()[0]
    assert "Traceback" in failed.read_text()
    page = (out / "table2.html").read_text()
    assert "1 cell is missing" in page
    assert "broken, seed 0:" in page
    for tower in CELLS[:3]:
        runs = [read_run(out / "cells" / "llava" / tower / "seed-0" / name) for name in ("scores", "blind", "source")]
        assert [run.header["images"] for run in runs] == ["own", "blank", "source"]
    assert "gives the untouched host" in page  # the own tower changed nothing


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_in_the_same_table(config, undisturbed, tmp_path):
    """Three of the moments of `tests/table2_kills.py`, which has ten."""
    out, drawn = config.parent / "killed", random.Random(seed := int.from_bytes(os.urandom(4)))
    command = [RECIPE, "--config", config, "--out", out]
    works = ("fine-tuning", "scoring", "table")
    killed = [kill_in(work, command, out, tmp_path / "said", drawn) for work in works]
    assert None not in killed[:2]  # the table takes no longer than a moment may be late
    assert launches.run(command).returncode == 1
    found = differing(undisturbed[0], out, [*TABLE, "cells/*/*/*/*/predictions.jsonl"])
    assert not found, f"moments of seed {seed}, {killed} s after their files"


@pytest.mark.slow
def test_cells_of_an_array_make_what_one_command_makes(config, undisturbed, tmp_path):
    out = config.parent / "array"
    listed = launches.run([RECIPE, "--config", config, "--out", out, "--cells"]).stdout.splitlines()
    assert [line.split()[2] for line in listed] == CELLS
    assert {line.rpartition("  ")[2].strip() for line in listed} == {"to do"}
    started = [
        launches.start([RECIPE, "--config", config, "--out", out, "--cell", numbers], tmp_path / f"said-{numbers}")
        for numbers in ("0-1", "2", "3")
    ]
    for process in started:
        process.join(300)
    assert [process.exitcode for process in started] == [0, 0, 1]
    assert not (out / "table2.html").exists()
    assert launches.run([RECIPE, "--config", config, "--out", out, "--table"]).returncode == 0
    assert (out / "table2.csv").read_bytes() == (undisturbed[0] / "table2.csv").read_bytes()
    listed = launches.run([RECIPE, "--config", config, "--out", out, "--cells"]).stdout
    assert listed.count("finished") == 3
    assert listed.count("failed: ") == 1
    stages = {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("predictions.jsonl")}
    assert launches.run([RECIPE, "--config", config, "--out", out]).returncode == 1
    assert stages == {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("predictions.jsonl")}
    for name in TABLE:
        assert (out / name).read_bytes() == (undisturbed[0] / name).read_bytes()


@pytest.mark.slow
def test_a_cell_that_another_process_makes_is_waited_for_or_refused(config, tmp_path):
    out = tmp_path / "shared"
    first = launches.start([RECIPE, "--config", config, "--out", out, "--cell", "0"], tmp_path / "said")
    turn = out / "cells" / "llava" / "untouched" / "seed-0.turn" / ".lock"
    while first.is_alive() and not turn.exists():
        time.sleep(0.05)
    second = launches.run([RECIPE, "--config", config, "--out", out, "--cell", "0"])
    if first.is_alive():  # it was still at it
        assert second.returncode == 1
        assert f"in use by process {first.pid}" in second.stderr
    first.join(300)
    assert first.exitcode == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--cell", "9"], "error: --cell 9: give numbers of cells, 0 to 3"),
        (["--cell", "2-1"], "error: --cell 2-1: give numbers of cells"),
        (["--cell", "x"], "error: --cell x: give numbers of cells"),
        (["--towers", "[clop]"], "error: tower 'clop': give own, random, start, clip, mgll or NAME=TOWER"),
        (["--towers", "[random, random]"], "error: a grid needs one tower or more, each once; found random, random"),
        (["--towers", "[untouched=x.ckpt]"], "error: tower 'untouched=x.ckpt': a name has letters"),
        (["--seeds", "[]"], "error: a grid needs one seed or more, each once; found none"),
        (["--hosts", "[{host: lava}]"], "error: no host is called 'lava'; known: llava"),
        (["--hosts", "[{host: llava, finetune: {rnak: 2}}]"], "error: llava: fine-tuning has no setting rnak"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused_before_anything_is_made(config, tmp_path, change, said):
    found = launches.run([RECIPE, "--config", config, "--out", tmp_path / "run", *change])
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1].startswith(said), found.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_dry_run_of_the_full_table_needs_neither_data_nor_checkpoints(tmp_path):
    full = RECIPE.parent / "configs" / "table2.yaml"
    found = launches.run([RECIPE, "--config", full, "--out", tmp_path / "run", "--dry-run"], cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("128 cells, 128 to do")
    assert "GPU hours on an A100" in found.stdout
    rows = [line.split() for line in found.stdout.splitlines()[2:10]]
    assert [row[0] for row in rows] == [entry["host"] for entry in yaml.safe_load(full.read_text())["hosts"]]
    assert all(10 < float(row[3]) < 80 for row in rows)  # GB of GPU memory
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_more_seeds_leave_what_is_finished_as_it_is(config, undisturbed):
    out = undisturbed[0]
    before = {path: path.read_bytes() for path in (out / "cells").rglob("*.stage.json")}
    towers = json.dumps(["own", "random"])
    found = launches.run([RECIPE, "--config", config, "--out", out, "--seeds", "[0, 1]", "--towers", towers])
    assert found.returncode == 0, found.stderr
    assert all(path.read_bytes() == content for path, content in before.items())
    assert (out / "reports" / "llava" / "report.html").is_file()
    assert 'href="reports/llava/report.html"' in (out / "table2.html").read_text()
