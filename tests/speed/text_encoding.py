"""What the texts of a step cost, in ratios side by side in one process.

    taskset -c 1 python tests/speed/text_encoding.py

- Every string of a batch encoded, against each unique text once.
- Free reports in batches of 4,096 images: what a worker and what the training process does for them in a step, against the plain
  form (dense matrices made and grouped on the processor, tokens picked text by text). In processor time, so that other work on the
  machine does not decide. The device is torch's "meta", which computes nothing: what is left is the training process's own time.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

import numpy as np
import torch
from rows import Row, say, shown
from torch.nn.utils.rnn import pad_sequence

from mgll.encoders.text import TextEncoder
from mgll.manifest.records import Record
from mgll.objective import group_images
from mgll.synthetic import sample_eye
from mgll.training.data import text_levels
from mgll.training.texts import TrainingTexts
from mgll.training.token_file import tokens_from_file
from mgll.vocabulary.label_texts import describe_labels

BATCH, ROUNDS = 32, 3
IMAGES, REPORT_WORDS = 4096, 60
WORDS = (
    "macula",
    "disc",
    "normal",
    "haemorrhage",
    "drusen",
    "cup",
    "vessel",
    "retina",
    "mild",
    "severe",
    "no",
    "oedema",
)


def seconds(work: Callable[[], object]) -> float:
    """Processor time of this process."""
    started = time.process_time()
    work()
    return time.process_time() - started


def median(work: Callable[[], object]) -> float:
    return float(np.median([seconds(work) for _ in range(ROUNDS)]))


def rows() -> Iterator[Row]:
    """Every text of a batch against each unique text once, and free reports with tokens from a file against the plain form."""
    torch.set_num_threads(1)
    yield from unique_texts()
    yield from free_reports()


def unique_texts() -> Iterator[Row]:
    random = np.random.default_rng(0)
    batch = [describe_labels(sample_eye(random)) for _ in range(BATCH)]
    strings = [text for texts in batch for level in texts.values() for text in level]
    unique = list(dict.fromkeys(strings))
    encode = TextEncoder().features
    encode(unique)
    ratios = [seconds(lambda: encode(strings)) / seconds(lambda: encode(unique)) for _ in range(ROUNDS)]
    note = f"{len(strings)} strings, {len(unique)} unique"
    yield shown(f"encoding every text of a batch of {BATCH}", "each unique text once", float(np.median(ratios)), note)


def free_reports() -> Iterator[Row]:
    random = np.random.default_rng(0)
    records = [
        Record(
            image=str(i),
            split="train",
            group=str(i),
            texts={
                "disease": (("normal", "abnormal")[i % 2], f"disease {i % 40}"),
                "report": (" ".join(random.choice(WORDS, REPORT_WORDS)),),
            },
        )
        for i in range(2 * IMAGES)
    ]
    encoder, levels = TextEncoder(training="full"), text_levels(records, levels="separate")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.safetensors"
        every = [text for level in levels.values() for text in level.unique]
        first, later = (seconds(lambda: tokens_from_file(path, encoder, every)) for _ in range(2))
        texts, issued = (
            TrainingTexts(levels, encoder, device, lambda own: tokens_from_file(path, encoder, own))
            for device in ("cpu", "meta")
        )
        own = random.permutation(2 * IMAGES)[:IMAGES].tolist()
        picked = texts.table.pick(own)
        before, worker, main = (
            median(lambda: plain_batch(texts, own)),
            median(lambda: texts.table.pick(own)),
            median(lambda: issued.on_device(picked)),
        )
    sent = sum(array.nbytes for array in picked.inputs)
    sent += sum(array.nbytes for level in picked.levels.values() for array in vars(level).values())
    sent += sum(array.nbytes for array in picked.groups or ())
    dense = texts.on_device(picked)
    groups = dense.groups.counts if dense.groups else []
    matrices = sum(tensor.nbytes for tensor in (*dense.inputs, *dense.incidences.values(), *groups))
    work = f"texts of a step, free reports, batch {IMAGES}, as before there was a file of tokens"
    note = f"plain {before:.3f} s of a core a step; worker {worker:.4f} s, training process {main:.4f} s"
    yield shown(work, "ours without workers", before / (worker + main), note)
    note = f"{sent / 1e6:.1f} MB sent to the device, {matrices / 1e6:.1f} MB as dense matrices"
    yield shown(work, "what is left in the training process with workers", before / main, note)
    note = f"{len(every)} texts tokenised in {first:.1f} s, found again in {later:.2f} s"
    yield shown("tokenising all texts", "finding them in the file", first / later, note)


def plain_batch(texts: TrainingTexts, records: list[int]) -> object:
    """Dense incidences made and grouped on the processor, and tokens picked text by text."""
    table, rows, incidences = texts.table, [], []
    assert table.tokens is not None
    for name, level in table.levels.items():
        own = [level.of_record(record) for record in records]
        used, columns = np.unique(np.concatenate(own), return_inverse=True)
        incidence = np.zeros((len(own), len(used)), dtype=np.float32)
        np.add.at(incidence, (np.repeat(np.arange(len(own)), [len(part) for part in own]), columns), 1)
        rows.append(table.numbers[name][used])
        incidences.append(torch.from_numpy(incidence))
    unique = np.unique(np.concatenate(rows))
    bounds = table.tokens.bounds.tolist()
    parts = [table.tokens.ids[bounds[text] : bounds[text + 1]].long() for text in unique.tolist()]
    return pad_sequence(parts, batch_first=True), group_images(incidences)


if __name__ == "__main__":
    say(rows())
