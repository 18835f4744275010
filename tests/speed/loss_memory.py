"""Peak memory of loss and backward beyond the features and their gradients, against the naive form; printed as ratios.

    python tests/speed/loss_memory.py [--images 4096]

Each form runs in a process of its own. Memory is what PyTorch's profiler counts: every allocation of the CPU allocator, so
neither another process nor the C library's cache shows in it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

import torch
import torch.nn.functional as F
from rows import Row, say, shown
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from mgll.naive_objective import Occurrences, naive_objective
from mgll.objective import Level, Objective

WIDTH, LEVELS, TEXTS, UNIQUE = 768, 3, 2, 100  # feature width, levels, texts an image and level, unique texts a level


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--form", choices=["unique", "naive"], help="measure this one here (the script calls itself)")
    options = parser.parse_args()
    if options.form:
        print(json.dumps(peak(options.form, options.images)))
        return
    say(rows(options.images))


def rows(images: int = 4096) -> Iterator[Row]:
    """The naive form's memory against ours, and how ours grows."""
    unique, naive, half = (apart(*case) for case in (("unique", images), ("naive", images), ("unique", images // 2)))
    work = f"memory of the loss, {images:,} images, {LEVELS} levels, {TEXTS} texts each"
    held = f"{naive / 1e6:.0f} MB and {unique / 1e6:.1f} MB"
    yield shown(f"{work}, the naive form", f"ours on {LEVELS * UNIQUE} unique texts", naive / unique, held)
    yield shown(work, "half as many images", unique / half)


def apart(form: str, images: int) -> int:
    """`peak` in a process of its own."""
    command = [sys.executable, __file__, "--form", form, "--images", str(images)]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def peak(form: str, images: int) -> int:
    """Bytes that loss and backward hold at once, less the gradients of the features."""
    torch.manual_seed(0)
    features = F.normalize(torch.randn(images, WIDTH), dim=1).requires_grad_()
    texts = F.normalize(torch.randn(LEVELS, UNIQUE, WIDTH), dim=2).requires_grad_()
    own = torch.rand(LEVELS, images, UNIQUE).topk(TEXTS, dim=2).indices  # [levels, N, texts]
    objective = Objective("mgll-paper")

    if form == "naive":
        owners = torch.arange(images).repeat_interleave(TEXTS)
        every = [texts[level].detach()[own[level].flatten()].requires_grad_() for level in range(LEVELS)]
        levels = {str(i): Occurrences(every[i], owners, own[i].flatten()) for i in range(LEVELS)}
        leaves = [features, *every]
    else:
        counts = torch.zeros(LEVELS, images, UNIQUE).scatter_add_(2, own, torch.ones(own.shape))
        leaves = [features, texts]

    def loss() -> Tensor:
        if form == "naive":
            return naive_objective(features, levels, objective)
        parts = {str(i): Level(texts[i], counts[i]) for i in range(LEVELS)}
        return objective(features, parts)["loss"]

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        loss().backward()
    return highest(profiler) - sum(leaf.grad.nbytes for leaf in leaves if leaf.grad is not None)


def highest(profiler: profile) -> int:
    """Largest sum of what was allocated and not yet freed, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    held, most = 0, 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most


if __name__ == "__main__":
    main()
