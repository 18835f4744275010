"""Table 2 killed in the middle of every kind of its work, and gone on with, against a run that nothing disturbed.

    python tests/table2_kills.py --out FOLDER [--seed 0]

Ten times the command is started and killed (SIGKILL, with all its processes) at a random moment of a named kind of work; the
eleventh start ends it. One tiny host, two towers of which one is pretrained, one seed. Compared byte for byte are the table, the
report of the host, and the predictions; the last two name the commit they were made with, so commit nothing meanwhile. Ends with 1
where a file differs.
"""

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import launches
import numpy as np
import yaml
from PIL import Image

from mgll.manifest.records import Record, write_manifest
from mgll.vocabulary.diseases import diseases

RECIPE = Path(__file__).parents[1] / "recipes" / "table2.py"
#: Kind of work -> files whose appearance shows that it has begun.
WORK = {
    "alignment": "cells/*/*/*/tuned/run.json",
    "fine-tuning": "cells/*/*/*/tuned/checkpoints/step-*/state.json",
    "scoring": "cells/*/*/*/s*/*",
    "pretraining": "towers/*/*/checkpoints/step-*/state.json",
    "grafting": "cells/*/*/*/graft*",
    "report": "reports/*/*",
    "table": "table2.*",
}
#: In the order in which the command does them: of the untouched host, the random tower, the pretrained one, and the table.
KILLED_IN = (
    *("alignment", "fine-tuning", "scoring", "grafting", "fine-tuning"),
    *("pretraining", "pretraining", "fine-tuning", "scoring", "report"),
)
CODES = ("Health", "DR", "AMD", "Glaucoma", "Myopia", "Cataract")
#: A kill comes so many seconds later at most.
_LATER = 0.5


def kill_in(work: str, command: Sequence[str | Path], out: Path, said: Path, drawn: random.Random) -> float | None:
    """Start a command, and kill it at a random moment after the next file of this kind of work has appeared in its folder.

    Returns:
        How many seconds after that file; None if the command ended before.
    """
    there, later = set(out.glob(WORK[work])), drawn.uniform(0, _LATER)
    process = launches.start(command, said)
    while process.is_alive() and set(out.glob(WORK[work])) <= there:
        time.sleep(0.005)
    process.join(later)
    if not process.is_alive():
        return None
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    return later


def differing(one: Path, other: Path, patterns: Iterable[str]) -> list[str]:
    """Files of either folder that match and are not the same in both, byte for byte."""
    names = {
        path.relative_to(folder) for folder in (one, other) for pattern in patterns for path in folder.glob(pattern)
    }
    contents = {
        name: [(folder / name).read_bytes() if (folder / name).is_file() else None for folder in (one, other)]
        for name in names
    }
    return sorted(str(name) for name, (first, second) in contents.items() if first != second)


def noise_manifest(folder: Path) -> Path:
    """The manifest of 96 small images of noise, half of which are trained on, with six diseases."""
    generator, records = np.random.default_rng(0), []
    for number in range(96):
        path, code = folder / f"eye{number:02d}.png", CODES[number % len(CODES)]
        Image.fromarray(generator.integers(0, 256, (40, 44, 3), dtype=np.uint8)).save(path)
        texts, split = {"disease": (diseases()[code].name,)}, "train" if number < 48 else "test"
        records.append(
            Record(image=str(path), split=split, group=f"p{number}", texts=texts, labels=(code,), source="drawn")
        )
    write_manifest(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


def _configuration(folder: Path) -> Path:
    """One host, two towers, and of each stage what it needs to have a middle."""
    every_step = {"checkpoint_every": 1}
    settings = {
        "manifest": str(noise_manifest(folder)),
        "out": "run",
        "seeds": [0],
        "towers": ["random", "mgll"],
        "train_questions": 16,
        "test_questions": 16,
        "batch_size": 4,
        "standardise": False,
        "pretrain": {
            "encoder": "vit-tiny-16",
            "image_size": 32,
            "epochs": 2,
            "batch_size": 16,
            "pooling": "mean",
            **every_step,
        },
        "finetune": {"rank": 4, "steps": 4, "batch_size": 8, "log_every": 1, "align": True, **every_step},
        "hosts": [{"host": "llava", "checkpoint": "tiny", "tokens": "pooled"}],
    }
    path = folder / "table2.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def main() -> int:
    """Run undisturbed, run with kills, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of everything; must be new")
    parser.add_argument("--seed", type=int, default=None, help="of the moments; drawn and printed if not given")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    folder = options.out.resolve()
    seed = int.from_bytes(os.urandom(4)) if options.seed is None else options.seed
    drawn, said, killed = random.Random(seed), folder / "said.txt", folder / "killed"
    command = [RECIPE, "--config", _configuration(folder), "--out"]
    print(f"moments of seed {seed}", flush=True)
    for number, work in enumerate(KILLED_IN, 1):
        later = kill_in(work, [*command, killed], killed, said, drawn)
        print(
            f"{number}: "
            + (f"killed in {work}, {later:.3f} s after its next file" if later is not None else f"ended before {work}"),
            flush=True,
        )
    for out in (killed, folder / "undisturbed"):
        ended = launches.run([*command, out], timeout=3600)
        if ended.returncode:
            print(ended.stderr)
            return 1
    files = ("table2.*", "reports/*/*.*", "cells/*/*/*/*/predictions.jsonl")
    wrong = differing(folder / "undisturbed", killed, files)
    compared = sum(1 for pattern in files for _ in killed.glob(pattern))
    print(f"{compared} files compared, {len(wrong)} differ{': ' if wrong else ''}{', '.join(wrong)}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
