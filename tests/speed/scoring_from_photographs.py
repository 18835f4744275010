"""Scoring from photographs of 2,000 px against scoring from ready tensors: what is left of decoding when workers go ahead.

    python tests/speed/scoring_from_photographs.py [--cases 16] [--workers 2]

Two figures, neither of which other work on the machine decides. The scoring thread's own processor time: what cannot overlap. And
the wall time of a model that waits like the processor of a computer whose card is at work, for an image as long as three
photographs take here and now.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "mllm_adapters"))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

import numpy as np
from letter_scoring import one_quiet_thread, save_llava
from PIL import Image
from rows import Row, at_most, say

from benchmark.cases.case import Case
from benchmark.cases.images import open_case_image
from benchmark.predictions.batches import Asking, in_batches
from benchmark.predictions.scoring import score_cases
from benchmark.scorers.scorer import Ask
from benchmark.scorers.transformers_scorer import Prepared, TransformersScorer
from benchmark.stats.rotations import as_asked
from mgll.files import sha256

#: A small batch, because the first one is waited for.
SIDE, BATCH = 2000, 2
#: A LLaVA of 576 image tokens that a core scores in four orders in some tenths of a second.
TOWER = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 3}
DECODER = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4}
#: One that takes a core next to nothing.
LIGHT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    say(rows(options.cases, options.workers, options.rounds))


def rows(count: int = 16, workers: int = 2, rounds: int = 3) -> Iterator[Row]:
    """The scoring thread's processor time, and the wall time beside a busy card."""
    one_quiet_thread()
    with tempfile.TemporaryDirectory() as folder:
        cases = photographed(Path(folder), count)
        scorer = TransformersScorer(save_llava(Path(folder) / "llava", TOWER, DECODER))
        on_core, on_clock = time.process_time(), time.perf_counter()
        ready = prepared(scorer, cases)
        on_core, on_clock = (time.process_time() - on_core) / count, (time.perf_counter() - on_clock) / count
        tensors, ahead, in_line = compare(scorer, cases, ready, workers, time.thread_time, rounds)
        yield at_most(
            f"scoring thread's processor time, {SIDE:,} px photographs, {workers} workers",
            "ready tensors",
            ahead / tensors,
            1.1,
            f"{in_line / tensors:.2f} x without workers; to prepare a photograph takes a core {1000 * on_core:.0f} ms",
        )
        light, busy = TransformersScorer(save_llava(Path(folder) / "light", LIGHT, LIGHT)), 3 * on_clock
        light._loaded.model.register_forward_pre_hook(
            lambda _module, _inputs, named: time.sleep(busy * len(named["input_ids"])), with_kwargs=True
        )
        tensors, ahead, in_line = compare(light, cases, ready, workers, time.perf_counter, rounds)
        yield at_most(
            f"scoring by the clock, {SIDE:,} px photographs, {workers} workers, a card busy {1000 * busy:.0f} ms an image",
            "ready tensors",
            ahead / tensors,
            1.1,
            f"{in_line / tensors:.2f} x without workers",
        )


def compare(
    scorer: TransformersScorer,
    cases: Sequence[Case],
    ready: Sequence[Sequence[Prepared]],
    workers: int,
    clock: Callable[[], float],
    rounds: int,
) -> list[float]:
    """What a run takes by a clock, the median over rounds: from ready tensors, with workers ahead, and without."""

    def from_photographs(ahead: int) -> float:
        with tempfile.TemporaryDirectory() as out:
            started = clock()
            score_cases(cases, scorer, Path(out), Asking(rotations=4, batch_size=BATCH, workers=ahead))
            return clock() - started

    def from_tensors() -> float:
        started = clock()
        for batch in ready:
            scorer.score_prepared(batch, ("letter",))
        return clock() - started

    from_tensors()
    taken = [(from_tensors(), from_photographs(workers), from_photographs(0)) for _ in range(rounds)]
    return [median(times) for times in zip(*taken, strict=True)]


def photographed(folder: Path, count: int) -> list[Case]:
    """Cases about JPEG files of grain on a bright disc, each its own."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    disc = np.where(np.hypot(rows, columns) < 0.48, 150 + 60 * np.cos(9 * columns) * np.cos(7 * rows), 8)
    grain = np.random.default_rng(0).normal(0, 6, (SIDE, SIDE, 3))
    pixels = (disc[..., None] * (1, 0.6, 0.35) + grain).clip(0, 255).astype(np.uint8)
    cases = []
    for number in range(count):
        path = folder / f"eye{number}.jpg"
        Image.fromarray(np.roll(pixels, 16 * number, axis=0)).save(path, quality=92)
        cases.append(
            Case(
                id=f"case-{number}",
                image=str(path),
                image_sha256=sha256(path),
                group=f"patient-{number}",
                source="drawn",
                question="What diagnosis is most likely?",
                options=("Diabetic Retinopathy", "Age-related Macular Degeneration", "Glaucoma", "Cataract"),
                option_codes=("DR", "AMD", "Glaucoma", "Cataract"),
                answer=0,
                code="DR",
            )
        )
    return cases


def prepared(scorer: TransformersScorer, cases: Sequence[Case]) -> list[list[Prepared]]:
    """The batches that a run makes of the cases, as the model takes them."""
    lengths = [len(case.question) + sum(map(len, case.options)) for case in cases]
    batches = in_batches([case.image_sha256 for case in cases], lengths, BATCH, BATCH)
    orders = {case.id: tuple(as_asked(case.options, rotation) for rotation in range(4)) for case in cases}
    return [
        [
            scorer.prepare([Ask(open_case_image(cases[index]), cases[index].question, orders[cases[index].id])])
            for (index,) in batch
        ]
        for batch in batches
    ]


if __name__ == "__main__":
    main()
