"""The section `no-waiting`: between two lines of its log, pretraining never waits for the card.

The real loop runs, with `torch.cuda.set_sync_debug_mode("error")` from its second step to the one before its last, which logs and
saves. Whatever would make the processor wait there (a value that is read, a copy from memory that is not pinned) ends the run.
"""

import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bench import Bench
from findings import Finding, holds, shown
from tiny_text_models import bert

from mgll.settings import OBJECTIVES, PretrainSettings
from mgll.synthetic.dataset import generate
from mgll.training.pretraining import pretrain
from mgll.training.steps import steps_per_epoch

#: What is run beside every objective in bf16.
FORMS: dict[str, dict[str, Any]] = {
    "float32": {"mixed_precision": "no"},
    "frozen texts": {"text_training": "frozen"},
    "chunk, checkpointing": {"chunk": 2, "gradient_checkpointing": True},
    "workers": {"workers": 2},
    "augmentation on the card": {"workers": 2, "augment_on_device": True},
}
IMAGES, EPOCHS = 24, 3


def measure(bench: Bench) -> Iterator[Finding]:
    """One row a form of the run."""
    manifest = generate(bench.folder / "eyes", IMAGES, seed=0, size=64, progress=False)
    plain = PretrainSettings(
        manifest=str(manifest),
        encoder="vit-nano-16",
        image_size=32,
        text_encoder=bert(bench.folder / "bert"),
        text_training="full",
        batch_size=4,
        epochs=EPOCHS,
        log_every=10**6,
        checkpoint_every=10**6,
        remember_images=False,
        mixed_precision="bf16" if bench.on_gpu else "no",
    )
    forms = {name: replace(plain, objective=name) for name in OBJECTIVES}
    forms |= {name: replace(plain, **changes) for name, changes in FORMS.items()}
    for name in ("mgll", "chunk, checkpointing") if bench.tiny else forms:
        yield _run(name, replace(forms[name], out=str(bench.folder / name)), bench)


def _run(name: str, settings: PretrainSettings, bench: Bench) -> Finding:
    done: list[int] = []
    images = sum('"train"' in line for line in Path(str(settings.manifest)).read_text(encoding="utf-8").splitlines())
    last = settings.epochs * steps_per_epoch(images, settings.batch_size)

    def after_step(step: int) -> None:
        done.append(step)
        if bench.on_gpu:
            torch.cuda.set_sync_debug_mode("error" if 1 <= step < last - 1 else "default")

    what = f"{name}: waits in {last - 2} steps"
    try:
        pretrain(settings, after_step=after_step)
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        return holds(what, f"in step {len(done) + 1}, {_place(error)}", "none", False)
    finally:
        if bench.on_gpu:
            torch.cuda.set_sync_debug_mode("default")
    if done != list(range(1, last + 1)):
        return holds(what, f"{len(done)} steps were made", f"{last}", False)
    return holds(what, "0", "none", True) if bench.on_gpu else shown(what, "a CPU does not wait")


def _place(error: Exception) -> str:
    """Where the last line of our own code stands that led to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and frame.filename != __file__]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} ({frame.line})"
