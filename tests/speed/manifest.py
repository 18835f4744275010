"""Opening a manifest as long as MGLL-Fundus and giving the first batch, against reading the same lines with pandas.

python tests/speed/manifest.py
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

import numpy as np
import pandas as pd
from PIL import Image
from rows import Row, say, shown
from torch.utils.data import DataLoader

from mgll.images.preprocessing import Preprocessing
from mgll.manifest.records import Record, Records, read_manifest, write_manifest
from mgll.synthetic import sample_eye
from mgll.training.data import TrainingImages, text_levels
from mgll.training.looks import Augmentation
from mgll.training.steps import global_batches
from mgll.vocabulary.label_texts import describe_labels

LINES, BATCH, ROUNDS = 246_389, 32, 3


def seconds(work: Callable[[], object]) -> float:
    """Of processors, which other work on the machine hardly changes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def write(folder: Path) -> Path:
    random = np.random.default_rng(0)
    eyes = [sample_eye(random) for _ in range(2000)]
    texts = [describe_labels(labels) for labels in eyes]
    for number in range(64):
        Image.fromarray(random.integers(0, 255, (256, 256, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
    write_manifest(
        folder / "manifest.jsonl",
        (
            Record(
                image=f"{line % 64}.jpg",
                split="train",
                group=f"patient-{line:07d}",
                texts=texts[line % 2000],
                labels=eyes[line % 2000],
                source=f"data-set-{line % 49}",
            )
            for line in range(LINES)
        ),
    )
    return folder / "manifest.jsonl"


def first_batch(manifest: Path) -> None:
    records = read_manifest(manifest, "train")
    levels = text_levels(records, levels="separate")
    images = TrainingImages(records, Preprocessing(), Augmentation(0.7, 0.5, 0.1, 0))
    (batch,) = (batch for batch, _ in zip(global_batches(len(records), BATCH, 0, 0), range(1), strict=False))
    for _ in DataLoader(images, sampler=[(0, index) for index in batch], batch_size=None):
        pass
    for level in levels.values():
        level.occurrences(batch)


def private_megabytes(records: Sequence[Record]) -> float:
    """Memory that a forked process has of its own after it has looked at every record, Linux only."""
    reading, writing = os.pipe()
    if not os.fork():
        for record in records:
            _ = record.image
        rollup = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
        kilobytes = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
        os.write(writing, str(kilobytes).encode())
        os._exit(0)
    os.wait()
    return int(os.read(reading, 32)) / 1024


def rows(rounds: int = 1) -> Iterator[Row]:
    """Our time to the first batch against pandas, and the memory that a worker adds."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = write(Path(folder))
        pairs = [
            (seconds(lambda: pd.read_json(manifest, lines=True)), seconds(lambda: first_batch(manifest)))
            for _ in range(rounds)
        ]
        theirs, ours = np.median(pairs, axis=0)
        work = f"pandas.read_json of {LINES:,} lines"
        against = f"checking them and giving the first batch of {BATCH}"
        yield shown(work, against, float(np.median([a / b for a, b in pairs])), f"{theirs:.1f} s and {ours:.1f} s")
        if Path("/proc/self/smaps_rollup").is_file():
            records: Records = read_manifest(manifest)
            own, objects = private_megabytes(records), private_megabytes(list(records))
            work = "memory of a worker's own, a list of record objects"
            yield shown(work, "the records of a manifest", objects / own, f"{objects:.0f} MB and {own:.0f} MB")


if __name__ == "__main__":
    say(rows(ROUNDS))
