"""Cases about drawn eyes, for a first run without any data: what `run_mcq.py --cases demo` offers."""

import os
from pathlib import Path

from benchmark.case_building import build_cases

LEAST_IMAGES = 80  # fewer leave too few classes with two images


def demo_cases(folder: str | os.PathLike[str], seed: int = 0, count: int = 200) -> Path:
    """Draw eyes and balanced cases about them into `folder`; the same arguments give the same bytes.

    A second call with the same arguments finds the images there and only writes the cases again.

    Args:
        folder: gets a folder of its own for this seed and count.
        seed: of images and cases.
        count: number of cases.

    Returns:
        Path of the file of cases.

    Raises:
        ValueError: if count is below 1.
        FileExistsError: if the folder holds other images in the place of these.
    """
    from mgll.synthetic import generate

    if count < 1:
        raise ValueError(f"count is {count}; at least one case is needed")
    home = Path(folder) / f"demo-cases-{seed}-{count}"
    manifest = generate(home, max(LEAST_IMAGES, count // 2), seed)
    build_cases(manifest, home / "cases.jsonl", split=None, count=count, min_images=2, seed=seed)
    return home / "cases.jsonl"
