"""The section `hosts`: every host answers on the card as it does on the CPU, in whichever way its answer is read.

Tiny random instances of the hosts' real classes, stirred so that image and words decide. In float32 without TF32: the logits of a
plain forward pass; letters and options by the prompt tree; letters by a mask of the whole tree; and the written replies, word for
word, but for one, in which two tokens may be as good as equal. In half precision the probability of a letter may drift a little.
"""

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from bench import Bench, without_tf32
from findings import Finding, at_most, holds
from PIL import Image
from scored_question import last_logits
from tiny.any_host import store_as
from tiny_models import stirred_host

from benchmark.scorers.scorer import Ask, Score
from benchmark.scorers.transformers_scorer import TransformersScorer
from benchmark.stats.rotations import as_asked
from mllm_adapters.hosts.registry import HOSTS
from mllm_adapters.loading.load import load

#: Largest difference between CPU and GPU in float32: of logits, relative to the largest; of log-probabilities.
LOGITS_APART, LOG_PROBS_APART = 1e-4, 1e-3
#: Largest drift of a letter's probability from float32's, by precision.
DRIFT = {torch.bfloat16: 0.1, torch.float16: 0.02}
#: For a dry run: a plain host; a Q-Former that reads the question; a model of our own; attention across to the image.
OF_EVERY_KIND = ("llava", "instructblip", "qwen-vl", "med-flamingo")
OPTIONS = ("Drusen", "Glaucoma", "Media Haze", "No Age-related Macular Degeneration")


def measure(bench: Bench) -> Iterator[Finding]:
    """Five rows a host in float32, one for each half precision."""
    without_tf32()
    for name in OF_EVERY_KIND if bench.tiny else HOSTS:
        yield from _host(name, stirred_host(name, bench.folder / name), bench)


def _host(name: str, folder: Path, bench: Bench) -> Iterator[Finding]:
    asks = [_ask(seed, 2 if bench.tiny else 4) for seed in range(2)]
    logits = [_logits(folder, asks, device) for device in ("cpu", bench.device)]
    apart = float((logits[1] - logits[0]).abs().max() / logits[0].abs().max())
    yield at_most(f"{name}: logits, GPU from CPU", apart, LOGITS_APART)

    expected, found = (TransformersScorer(folder, str(device)) for device in ("cpu", bench.device))
    views = expected.score(asks, ["letter", "option", "text"]), found.score(asks, ["letter", "option", "text"])
    yield at_most(f"{name}: letters, GPU from CPU", _letters_apart(*views), LOG_PROBS_APART)
    yield at_most(f"{name}: options, GPU from CPU", _options_apart(*views), LOG_PROBS_APART)
    pairs = [(one.text, other.text) for one, other in _pairs(*views)]
    same = sum(one == other for one, other in pairs)
    yield holds(f"{name}: replies as on the CPU", f"{same} of {len(pairs)}", "all but 1", same >= len(pairs) - 1)
    if not found._loaded.host.whole_prompts:
        found._loaded.model.get_decoder().config.get_text_config()._attn_implementation = "eager"
        masked = found.score(asks, ["letter"])
        yield at_most(f"{name}: letters by a mask, GPU from CPU", _letters_apart(views[0], masked), LOG_PROBS_APART)

    for dtype, most in DRIFT.items():
        short = str(dtype).removeprefix("torch.")
        half = store_as(dtype, shutil.copytree(folder, folder.with_name(f"{name}-{short}")))
        drifted = TransformersScorer(half, str(bench.device), dtype=short).score(asks, ["letter"])
        yield at_most(f"{name}: a letter's probability, {short} from float32", _drift(views[0], drifted), most)


def _ask(seed: int, orders: int) -> Ask:
    pixels = np.random.default_rng(seed).integers(0, 256, (40 + seed, 52, 3), dtype=np.uint8)
    wording = ("What is it?", "What diagnosis is most likely, then?")[seed % 2]
    return Ask(Image.fromarray(pixels), wording, tuple(as_asked(OPTIONS, rotation) for rotation in range(orders)))


def _logits(folder: Path, asks: Sequence[Ask], device: object) -> torch.Tensor:
    loaded = load(folder, device=str(device))
    prompts = [loaded.host.prompt(ask.texts[0]) for ask in asks]
    return last_logits(loaded, [ask.image for ask in asks], prompts).cpu()


def _pairs(one: Sequence[Sequence[Score]], other: Sequence[Sequence[Score]]) -> Iterator[tuple[Score, Score]]:
    for own, theirs in zip(one, other, strict=True):
        yield from zip(own, theirs, strict=True)


def _letters_apart(one: Sequence[Sequence[Score]], other: Sequence[Sequence[Score]]) -> float:
    return max(_apart(a.log_probs, b.log_probs) for a, b in _pairs(one, other))


def _options_apart(one: Sequence[Sequence[Score]], other: Sequence[Sequence[Score]]) -> float:
    return max(_apart(a.option_log_probs, b.option_log_probs) for a, b in _pairs(one, other))


def _drift(one: Sequence[Sequence[Score]], other: Sequence[Sequence[Score]]) -> float:
    return max(
        _apart([math.exp(value) for value in a.log_probs or ()], [math.exp(value) for value in b.log_probs or ()])
        for a, b in _pairs(one, other)
    )


def _apart(one: Sequence[float] | None, other: Sequence[float] | None) -> float:
    """Largest difference between two equally long lists; NaN where one holds NaN, which keeps no bound."""
    assert one
    assert other
    return float(np.abs(np.subtract(one, other)).max())
