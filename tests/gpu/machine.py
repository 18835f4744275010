"""The section `machine`: which card and which software the other rows were measured with."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from bench import Bench
from findings import Finding, holds, shown

from mgll.provenance import provenance

#: Where `pack.py` leaves the commit that it packed.
COMMIT = Path(__file__).resolve().parents[2] / "COMMIT"


def measure(bench: Bench) -> Iterator[Finding]:
    """Names and sizes, and one product on the device: where this fails, nothing else needs to be read."""
    name = torch.cuda.get_device_name() if bench.on_gpu else "CPU, a dry run: nothing here is measured on a GPU"
    yield shown("card", name)
    if bench.on_gpu:
        yield shown("its memory", f"{bench.card_memory()[1] / 1e9:.1f} GB")
        yield shown("CUDA of torch", str(torch.version.cuda))
    yield shown("cores", str(len(os.sched_getaffinity(0))))
    for package, version in provenance().items():
        yield shown(package, version)
    if COMMIT.is_file():
        yield shown("packed from", COMMIT.read_text(encoding="utf-8").strip())
    found = (torch.ones(64, 64, device=bench.device) @ torch.ones(64, 64, device=bench.device)).sum().item()
    yield holds("a product on the device", f"{found:,.0f}", "262,144", found == 64**3)
