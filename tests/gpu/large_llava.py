"""The section `7B`: a LLaVA with the shapes of LLaVA-1.5-7B and random weights is loaded, asked and tuned on one card.

It is written in bf16 in shards, as published ones are. It must load in little more main memory than its files have, be asked 64
cases in 4 and in 24 orders, write replies, and make five steps of tuning, all without filling the card.
"""

import gc
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import Bench, in_a_process, peak_resident, resident
from findings import Finding, at_most, holds, shown
from letter_scoring import noise, save_llava

from benchmark.scorers.scorer import Ask, Score, View
from benchmark.scorers.transformers_scorer import TransformersScorer
from benchmark.stats.rotations import as_asked
from mgll.vocabulary.questions import question_text
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

#: Largest main memory that loading takes, in sizes of the files.
LOADED = 1.2
#: Largest difference of a letter's probability between tree and mask in bf16.
APART = 0.05
SEVEN_BILLION: Mapping[str, Mapping[str, int]] = {
    "tower": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
    "decoder": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32064,
        "max_position_embeddings": 4096,
    },
}
TINY: Mapping[str, Mapping[str, int]] = {
    "tower": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "decoder": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
}
OPTIONS = ("Diabetic Retinopathy", "Age-related Macular Degeneration", "Media Haze", "Optic Disk Cupping")
BATCH = 8  # cases a call, as `benchmark/run_mcq.py` asks by default


def measure(bench: Bench) -> Iterator[Finding]:
    """The rows of loading, of every way of asking, and of tuning."""
    folder = bench.folder / "llava"
    form = {"image_size": 56} if bench.tiny else {"dtype": "bfloat16"}
    in_a_process(_write, folder, {**(TINY if bench.tiny else SEVEN_BILLION), **form, "device": str(bench.device)})
    files = sorted(folder.glob("*.safetensors"))
    stored = sum(path.stat().st_size for path in files)
    yield shown("weights", f"{stored / 1e9:.3g} GB in {len(files)} shards")

    before, started = resident(), time.monotonic()
    scorer = TransformersScorer(folder, str(bench.device))
    yield shown("seconds to load and hash", f"{time.monotonic() - started:.3g}")
    taken = (peak_resident() - before) / stored
    what = "main memory that loading took at its peak, in sizes of the files"
    yield shown(what, "libraries outweigh tiny files") if bench.tiny else at_most(what, taken, LOADED)

    yield from _asked(bench, scorer)
    del scorer
    gc.collect()
    yield from _tuned(bench, folder)


def _write(folder: Path, sizes: Mapping[str, Any]) -> None:
    save_llava(folder, **sizes)


def _asked(bench: Bench, scorer: TransformersScorer) -> Iterator[Finding]:
    """Letters in 4 and 24 orders by the tree, in 24 by a mask, then replies."""
    count = 2 if bench.tiny else 64
    images = [noise(number) for number in range(count)]
    found: dict[str, list[list[Score]]] = {}
    seconds: dict[str, float] = {}
    for orders in (4, 24):
        asks = [Ask(image, "What diagnosis is most likely?", _orders(orders)) for image in images]
        for way in ("tree", "mask") if orders == 24 else ("tree",):
            name = f"{count} cases in {orders} orders, letters by {way}"
            bench.forget_memory()
            with _whole_mask(scorer) if way == "mask" else _as_it_is():
                _ask(scorer, asks[:1], ("letter",))
                found[way], seconds[way] = _timed(bench, scorer, asks, ("letter",))
            yield from _rows(bench, name, seconds[way], count)
        written = asks if orders == 4 else asks[:BATCH]
        bench.forget_memory()
        said, taken = _timed(bench, scorer, written, ("text",))
        yield from _rows(bench, f"{len(written)} cases in {orders} orders, replies", taken, len(written))
        replies = sum(len(scores) for scores in said)
        expected = orders * len(written)
        yield holds(
            f"{len(written)} cases in {orders} orders, replies written",
            f"{replies:,}",
            f"{expected:,}",
            replies == expected,
        )
    yield shown("a mask's time, of the tree's", f"{seconds['mask'] / seconds['tree']:.2f} x")
    pairs = [pair for one, two in zip(found["tree"], found["mask"], strict=True) for pair in zip(one, two, strict=True)]
    apart = max(abs(math.exp(a) - math.exp(b)) for one, two in pairs for a, b in zip(*_letters(one, two), strict=True))
    yield at_most("a letter's probability, mask from tree", apart, APART)


def _letters(*scores: Score) -> list[tuple[float, ...]]:
    return [score.log_probs or () for score in scores]


def _orders(count: int) -> tuple[tuple[str, str, str, str], ...]:
    return tuple(as_asked(OPTIONS, rotation) for rotation in range(count))


def _timed(
    bench: Bench, scorer: TransformersScorer, asks: list[Ask], views: tuple[View, ...]
) -> tuple[list[list[Score]], float]:
    found: list[list[Score]] = []
    return found, bench.seconds(lambda: found.extend(_ask(scorer, asks, views)))


def _ask(scorer: TransformersScorer, asks: list[Ask], views: tuple[View, ...]) -> list[list[Score]]:
    batches = (asks[first : first + BATCH] for first in range(0, len(asks), BATCH))
    return [scores for batch in batches for scores in scorer.score(batch, views)]


def _rows(bench: Bench, name: str, seconds: float, count: int) -> Iterator[Finding]:
    yield shown(name, f"{seconds:.3g} s, {count / seconds:.3g} a second")
    if bench.on_gpu:
        _, total = bench.card_memory()
        yield at_most(f"{name}: memory at the peak", bench.peak_memory() / 1e9, total / 1e9, "GB")


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _whole_mask(scorer: TransformersScorer) -> Iterator[None]:
    """PyTorch's attention over whole sequences with the tree as a mask, in which most pairs are hidden."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    config = scorer._loaded.model.get_decoder().config.get_text_config()
    before = config._attn_implementation
    AttentionInterface.register("whole_mask", sdpa_attention_forward)
    config._attn_implementation = "whole_mask"
    try:
        yield
    finally:
        config._attn_implementation = before


def _tuned(bench: Bench, folder: Path) -> Iterator[Finding]:
    """Five steps of LoRA and connector."""
    questions = []
    for number in range(16):
        path = bench.folder / f"{number}.png"
        noise(number).save(path)
        asked = question_text("What diagnosis is most likely?", OPTIONS)
        questions.append(TrainingQuestion(path, asked, "ABCD"[number % 4]))
    settings = FinetuneSettings(steps=5, batch_size=8, gradient_checkpointing=True, log_every=1)
    bench.forget_memory()
    out = bench.folder / "tuned"
    seconds = bench.seconds(lambda: finetune(folder, questions, out, settings))
    rows = map(json.loads, (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    losses = [row["loss"] for row in rows if "loss" in row]
    said = " ".join(f"{loss:.3f}" for loss in losses)
    yield holds("five steps of tuning, losses", said, "5 numbers", len(losses) == 5 and all(map(math.isfinite, losses)))
    yield from _rows(bench, "tuning: hashing, loading, five steps of 8, saving", seconds, 40)
