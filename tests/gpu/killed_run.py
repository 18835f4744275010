"""The section `kill`: a pretraining that is killed on the card and started again ends with the weights of an undisturbed one.

On a GPU sums may be added up in another order each time, so two undisturbed runs may differ too. The resumed run may be twice as
far from the first as the second is, and must have the same bits where those two have.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from bench import Bench
from findings import Finding, at_most, holds, shown
from safetensors.torch import load_file
from tiny_text_models import bert

from mgll.settings import PretrainSettings
from mgll.synthetic.dataset import generate
from mgll.training.pretraining import pretrain


def measure(bench: Bench) -> Iterator[Finding]:
    """How often it was killed, and how far its weights are from those of undisturbed runs."""
    manifest = generate(bench.folder / "eyes", 24 if bench.tiny else 200, seed=0, size=64, progress=False)
    settings = PretrainSettings(
        manifest=str(manifest),
        encoder="vit-nano-16" if bench.tiny else "vit-tiny-16",
        image_size=32,
        text_encoder=bert(bench.folder / "bert"),
        text_training="full",
        text_dropout=0.1,
        batch_size=4,
        epochs=3,
        log_every=1,
        checkpoint_every=1,
        workers=1,
        mixed_precision="bf16" if bench.on_gpu else "no",
    )
    first, second, killed = (bench.folder / name for name in ("first", "second", "killed"))
    kills = 2
    with ExitStack() as running:
        others = [_start(replace(settings, out=str(out)), running) for out in (first, second)]
        for _ in range(kills):
            process, before = _start(replace(settings, out=str(killed)), running), _lines(killed)
            _wait(process, killed, before + 2)
            process.kill()
            process.join()
        ended = [_ended(process) for process in (_start(replace(settings, out=str(killed)), running), *others)]
    yield holds("runs that came to their end", f"{ended.count(0)} of 3", "3", ended == [0, 0, 0])
    if any(ended):
        return
    steps = _lines(first)
    yield holds(
        "steps of the killed run", f"{_lines(killed)}, killed {kills} times", f"{steps}", _lines(killed) == steps
    )
    control = _apart(first, second)
    yield shown("two undisturbed runs, weights apart", _said(control))
    found = _apart(first, killed)
    yield at_most("killed from undisturbed, weights apart", found, 2 * control)
    yield shown("the same bits", "yes" if found == 0 else "no")


def _start(settings: PretrainSettings, running: ExitStack) -> BaseProcess:
    """The run in a process of its own, which ends with `running` at the latest.

    It is forked from a server that has imported everything and computed nothing: the threads of a process that has computed are
    not there in its fork, which then waits for them for ever.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([pretrain.__module__])
    process = context.Process(target=pretrain, args=(settings,))
    process.start()
    running.callback(process.kill)
    return process


def _ended(process: BaseProcess) -> int | None:
    process.join()
    return process.exitcode


def _wait(process: BaseProcess, out: Path, goal: int) -> None:
    """Wait until a run has logged so many steps.

    Raises:
        RuntimeError: if it ends before.
    """
    while _lines(out) < goal:
        if not process.is_alive():
            raise RuntimeError(f"the run ended with {process.exitcode} before it could be killed")
        time.sleep(0.001)


def _lines(out: Path) -> int:
    log = out / "metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.is_file() else 0


def _apart(one: Path, other: Path) -> float:
    """Norm of the difference of two towers' weights, relative to the norm of the first."""
    first, second = (load_file(out / "mgll.ckpt") for out in (one, other))
    difference = sum(float((first[name].double() - second[name].double()).square().sum()) for name in first)
    whole = sum(float(tensor.double().square().sum()) for tensor in first.values())
    return float(torch.tensor(difference / whole).sqrt())


def _said(value: float) -> str:
    return f"{value:.2g}" if value else "0, the same bits"
