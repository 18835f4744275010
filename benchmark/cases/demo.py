"""Cases about drawn eyes, for a first run without any data: what `run_mcq.py --cases demo` offers."""

import os
from pathlib import Path


def demo_cases(folder: str | os.PathLike[str]) -> Path:
    """A file of 96 balanced cases about 160 drawn eyes in `folder`, made on first use; the same bytes everywhere."""
    # here, because scipy takes a moment to import
    from benchmark.cases.building import build_cases
    from mgll.synthetic.dataset import generate

    cases = Path(folder) / "cases.jsonl"
    if not cases.is_file():
        drawn = generate(cases.parent, count=160, seed=2233, size=160, workers=min(4, os.cpu_count() or 1))
        # Nothing is trained on these eyes, so all of them may be asked about.
        build_cases(drawn, cases, split=None, count=96, min_images=3)
    return cases
