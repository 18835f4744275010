"""Every command ends in one line and a non-zero exit status, whatever is wrong with a file or folder that it is given.

A slot is one argument of one command. Each is given all kinds of broken inputs, while its other arguments are good.
"""

import importlib
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.cases.building import build_cases
from benchmark.cases.overlap import OverlapCheck
from benchmark.run_mcq import run
from mgll.images.preprocessing import Preprocessing
from mgll.synthetic import generate
from mllm_adapters.demo.host import build_demo_host, save_random_tower

RECIPES = Path(__file__).parents[1] / "recipes"
ONE_CELL = '--hosts [{"host":"llava","checkpoint":"tiny"}] --towers ["own"] --seeds [0]'

#: Command -> its words, `<slot>` for good inputs and `{slot}` for the one that is broken in turn.
READS = {
    "mgll.manifest": ["validate {manifest}", "describe {manifest}", "group {manifest} --out <new>"],
    "mgll.manifest.shards": ["{manifest} --out <new>"],
    "mgll.readers.folder_csv": [
        "<folder> --table {table} --image image --level disease=labels --out <new>",
        "{folder} --table <table> --image image --level disease=labels --out <new>",
    ],
    "mgll.readers.fundus_folder": ["{folder} --out <new>"],
    "mgll.readers.mgll_fundus": ["{folder} --out <new>"],
    "mgll.readers.mimic_cxr": ["{folder} --out <new>", "<folder> --reports {folder} --out <new>"],
    "mgll.readers.midrc_xray": ["{folder} --out <new>", "<folder> --salt-file {salt} --out <new>"],
    "mgll.readers.webdataset_shards": ["{shard} --out <new>", "{shard} --level disease=txt --out <new>"],
    "mgll.tower": ["validate {tower}", "show {tower}"],
    "mgll.published": ["{tower} --layout mgll --out <new>"],
    "mgll.linear_probe": ["{tower} --manifest <manifest>", "<tower> --manifest {manifest}"],
    "mgll.training_cost": ["--config {config}"],
    "mllm_adapters.swap": [
        "--model llava --encoder {tower} --checkpoint <host> --out <new>",
        "--model llava --encoder <tower> --checkpoint {host} --out <new>",
        "--model llava --encoder <tower> --checkpoint <host> --warm {image} --out <new>",
    ],
    "mllm_adapters.convert": ["--model llava --checkpoint {host} --out <new>"],
    "mllm_adapters.graft": ["validate {host}", "show {host}"],
    "mllm_adapters.ask": ["{host} Why --image <image>", "<host> Why --image {image}"],
    "benchmark.cases": [
        "build --manifest {manifest} --out <new>",
        "build --manifest <manifest> --pretraining {tower} --out <new>",
        "validate {cases}",
        "describe {cases}",
    ],
    "benchmark.predictions": ["validate {run}"],
    "benchmark.report": [
        "--after {run} --cases <cases> --out <new>",
        "--after <run> --cases {cases} --out <new>",
        "--after <run> --before {run} --cases <cases> --out <new>",
        "--after <run> --cases <cases> --training {cases} --out <new>",
    ],
    "benchmark.harnesses.lmms_export": ["{cases} --out <new>"],
    "benchmark.harnesses.vlmevalkit": ["{cases} --out <new>"],
    "benchmark.fundus_hash.calibration": ["{manifest}"],
    "benchmark.run_mcq": [
        "--model {host} --cases <cases> --out <new>",
        "--model constant:A --cases {cases} --out <new>",
        "--model constant:A --cases <cases> --against {run} --out <new>",
    ],
    "pretrain_mgll": [
        "--manifest {manifest} --out <new>",
        "--manifest <manifest> --config {config} --out <new>",
        "--manifest <manifest> --start_weights {tower} --batch_size 4 --out <new>",
        "--manifest <manifest> --encoder hf:{host} --batch_size 4 --out <new>",
        "--manifest <manifest> --text_encoder {host} --batch_size 4 --out <new>",
    ],
    "finetune_mllm": ["--model {host} --cases <cases> --out <new>", "--model <host> --cases {cases} --out <new>"],
    "build_benchmark": ["--manifest {manifest} --out <new>"],
    "compare_towers": ["--manifest {manifest} --out <new>"],
    "table2": [
        f"--manifest {{manifest}} {ONE_CELL} --out <new>",
        f"--manifest <manifest> {ONE_CELL} --config {{config}} --out <new>",
    ],
    "compare_warm_graft": [
        "--manifest <manifest> --host_tower {tower} --donor_tower <tower> --train <cases> --validation <cases> --out <new>",
        "--manifest <manifest> --host_tower <tower> --donor_tower <tower> --train {cases} --validation <cases> --out <new>",
    ],
    "ablation": ["{config} --manifest <manifest> --out <new>"],
    "null_study": ["--out {run}"],
}
WRITES = {
    "mgll.synthetic": ["--out {out} --count 2", "--contact-sheet {out} --classes Health --size 32"],
    "mgll.manifest": ["group <manifest> --out {out}"],
    "mgll.manifest.shards": ["<manifest> --out {out}"],
    "mgll.readers.folder_csv": ["<folder> --table <table> --image image --level disease=labels --out {out}"],
    "mllm_adapters.swap": ["--model llava --encoder <tower> --checkpoint <host> --out {out}"],
    "mllm_adapters.convert": ["--model llava --checkpoint <host> --out {out}"],
    "benchmark.cases": ["build --manifest <manifest> --out {out}"],
    "benchmark.report": ["--after <run> --cases <cases> --out {out}"],
    "benchmark.harnesses.lmms_export": ["<cases> --out {out}"],
    "benchmark.harnesses.vlmevalkit": ["<cases> --out {out}"],
    "benchmark.calibrate_claims": ["--studies 1 --seeds 2 --out {out}"],
    "benchmark.run_mcq": ["--model constant:A --cases <cases> --out {out}"],
    "pretrain_mgll": ["--manifest <manifest> --batch_size 4 --encoder vit-nano-16 --image_size 32 --out {out}"],
    "finetune_mllm": ["--model <host> --cases <cases> --batch_size 4 --steps 1 --out {out}"],
    "build_benchmark": ["--manifest <manifest> --out {out}"],
    "compare_towers": ["--manifest <manifest> --out {out}"],
    "table2": [f"--manifest <manifest> {ONE_CELL} --out {{out}}"],
    "teach_reading": ["--host <host> --steps 1 --batch-size 2 --out {out}"],
    "train_demo_decoder": ["--steps 1 --out {out}"],
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A good input for every slot."""
    folder = tmp_path_factory.mktemp("good")
    manifest = generate(folder / "eyes", 60, seed=0, size=48)
    tower, cases = folder / "mgll.ckpt", folder / "cases.jsonl"
    save_random_tower(tower, encoder="vit-nano-16", preprocessing=Preprocessing(size=32))
    build_cases(str(manifest), cases, "train", OverlapCheck(), min_images=1)
    run("constant:A", cases, folder / "run")
    image = next((folder / "eyes" / "images").iterdir())
    (folder / "table.csv").write_text(f"image,labels\n{image.name},Drusen\n")
    return {
        "manifest": manifest,
        "tower": tower,
        "host": build_demo_host(tower, folder / "host"),
        "cases": cases,
        "run": folder / "run",
        "image": image,
        "table": folder / "table.csv",
        "folder": image.parent,
    }


def broken_inputs(folder: Path, good: Path | None) -> Iterator[tuple[str, Path]]:
    """Kinds of input that no command can use, one after the other, the good one cut or changed among them."""
    yield "missing", folder / "missing"
    yield "below a file", Path(__file__) / "below"
    (folder / "empty").touch()
    yield "empty", folder / "empty"
    (folder / "nothing").mkdir()
    yield "empty folder", folder / "nothing"
    (folder / "binary").write_bytes(bytes(range(256)) * 40)
    yield "binary", folder / "binary"
    (folder / "latin").write_bytes('{"schema": "Größe"}\n'.encode("latin-1"))
    yield "not UTF-8", folder / "latin"
    (folder / "deep").write_text("[" * 200_000)
    yield "deep JSON", folder / "deep"
    (folder / "other").write_text(json.dumps({"schema": "another/9"}) + "\n" + json.dumps({"a": 1}) + "\n")
    yield "another schema", folder / "other"
    os.mkfifo(folder / "fifo")
    yield "fifo", folder / "fifo"
    (folder / "loop").symlink_to(folder / "loop")
    yield "link to itself", folder / "loop"
    (folder / "filled").mkdir()
    for name in ("config.json", "model.safetensors", "labels.csv", "manifest.jsonl", "graft.json", "predictions.jsonl"):
        (folder / "filled" / name).write_text("[" * 100_000)
    yield "folder of deep JSON", folder / "filled"
    if good is not None and good.is_file() and good.suffix != ".csv":
        content = good.read_bytes()
        (folder / "cut").write_bytes(content[: len(content) * 2 // 3])
        yield "cut", folder / "cut"


def places_that_cannot_be_written(folder: Path) -> Iterator[tuple[str, Path]]:
    (folder / "file").write_text("precious")
    yield "below a file", folder / "file" / "out"
    (folder / "loop").symlink_to(folder / "loop")
    yield "below a link to itself", folder / "loop" / "out"
    yield "too long a name", folder / ("x" * 300)


def slots(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(command, line) for command, lines in table.items() for line in lines]


def execute(command: str, line: str, inputs: dict[str, Path]) -> int | str | None:
    """The exit status of a command in this process."""
    words = re.sub(r"[<{](\w+)[>}]", lambda found: str(inputs[found[1]]), line).split(" ")
    if "." in command:
        module = importlib.import_module(command)
        if not hasattr(module, "_main") and not hasattr(module, "main"):
            module = importlib.import_module(f"{command}.__main__")
    else:
        module = importlib.import_module(command)
    main = getattr(module, "_main", None) or module.main
    before, sys.argv = sys.argv, [command, *words]
    try:
        return main(words) if main.__wrapped__.__code__.co_argcount else main()
    except SystemExit as end:
        return end.code
    finally:
        sys.argv = before


@pytest.fixture(autouse=True)
def recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(RECIPES)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """An input that is opened and never ends fails its test instead of stopping all."""

    def wake(*_: object) -> None:
        raise AssertionError("the command waits for an input that never comes")

    signal.signal(signal.SIGALRM, wake)
    signal.alarm(120)
    yield
    signal.alarm(0)


def check(status: int | str | None, captured: tuple[str, str], where: str) -> None:
    out, error = captured
    assert status not in (0, None), f"{where}: exit 0\n{out}{error}"
    assert "Traceback" not in out + error, where
    lines = [line for line in re.split(r"[\r\n]", error) if line.strip()]
    assert lines, f"{where}: nothing on standard error, only {out!r}"
    if status == 1:
        assert lines[-1].startswith("error: "), f"{where}: {lines[-1]}"
        assert lines[-1].isprintable(), where


@pytest.mark.parametrize(("command", "line"), slots(READS))
def test_a_broken_input_ends_in_one_line(command, line, good, tmp_path, capfd):
    slot = re.search(r"{(\w+)}", line)
    assert slot
    for kind, path in broken_inputs(tmp_path, good.get(slot[1])):
        inputs = {**good, "new": tmp_path / f"new-{kind}", slot[1]: path}
        # a slot with one good and one broken input of the same name
        words = line.replace(f"<{slot[1]}>", f"{good.get(slot[1])}")
        status = execute(command, words, inputs)
        check(status, capfd.readouterr(), f"{command} {line}: {kind}")


@pytest.mark.parametrize(("command", "line"), slots(WRITES))
def test_a_place_that_cannot_be_written_ends_in_one_line(command, line, good, tmp_path, capfd):
    for kind, path in places_that_cannot_be_written(tmp_path):
        status = execute(command, line, {**good, "out": path})
        check(status, capfd.readouterr(), f"{command} {line}: {kind}")
    assert (tmp_path / "file").read_text() == "precious"
