"""Settings and questions of fine-tuning. Imports no torch."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

#: Published recipes scale by 0.25 to 32; beyond this the language model would hear nothing but LoRA.
LARGEST_SCALE = 1000


@dataclass(frozen=True)
class TrainingQuestion:
    """One question to learn.

    Attributes:
        image: path of the image.
        question: the text that goes with it, options included (`mgll.vocabulary.questions.question_text`), without the conversation
            form of the host.
        letter: the right answer, `A` to `D`.
        caption: the right answer in words, for `FinetuneSettings.align`.
    """

    image: Path
    question: str
    letter: str
    caption: str = ""


@dataclass(frozen=True)
class FinetuneSettings:
    """One fine-tuning run: LoRA on the language model, the connector in full, the tower frozen.

    Attributes:
        rank: rank of LoRA; 0 trains the connector alone.
        alpha: LoRA's scale is alpha / rank.
        dropout: dropout rate on LoRA's input.
        lora_targets: regex, matched against whole module names, in place of `Host.lora_targets`.
        learning_rate: peak learning rate of AdamW for LoRA: linear warm-up, then cosine decay to 0.
        connector_learning_rate: peak learning rate of AdamW for the connector, on the schedule of `learning_rate`.
        weight_decay: weight decay of AdamW.
        warmup: share of the steps that warm up.
        clip_grad: largest gradient norm.
        epochs: passes over the questions.
        steps: number of optimiser steps; where given, `epochs` is ignored.
        align: start by fitting the connector's last linear map in closed form to the captions
            (`mllm_adapters.finetuning.alignment`).
        batch_size: questions per step, over all processes together.
        seed: seed of LoRA's initial weights, of the order of questions, and of dropout.
        dtype: dtype of the weights; `auto` keeps the checkpoint's, but turns float16, which cannot be trained, into float32. What
            is trained is float32 in any case.
        mixed_precision: the setting of accelerate; use `no` on a CPU.
        gradient_checkpointing: compute activations again in the backward pass, which takes less memory and more time.
        image_cache_gib: memory in GiB for the outputs of the frozen tower, so that it runs only once per image. Where they do not
            fit, preprocessed images are kept instead; where these do not fit either, nothing is kept.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of metrics.jsonl.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    lora_targets: str | None = None
    learning_rate: float = 2e-4
    connector_learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup: float = 0.03
    clip_grad: float = 1.0
    epochs: int = 1
    steps: int | None = None
    align: bool = False
    batch_size: int = 16
    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    image_cache_gib: float = 2.0
    checkpoint_every: int = 100
    log_every: int = 10


def check_trained_parts(settings: FinetuneSettings) -> None:
    """Raise `ValueError` unless LoRA can be built of its settings and does something: rank, alpha, dropout and the regex."""
    if settings.rank < 0:
        raise ValueError(f"rank is {settings.rank}; give 0, which trains the connector alone, or more")
    scale = settings.alpha / (settings.rank or 1)
    if not (math.isfinite(scale) and 0 < scale <= LARGEST_SCALE):
        raise ValueError(
            f"alpha is {settings.alpha}: LoRA's scale, alpha / rank, must be above 0 and at most {LARGEST_SCALE}"
        )
    if not 0 <= settings.dropout < 1:
        raise ValueError(f"dropout is {settings.dropout}; give a rate from 0 to below 1")
    try:
        re.compile(settings.lora_targets or "")
    except re.error as error:
        raise ValueError(f"lora_targets {settings.lora_targets!r} is no regular expression: {error}") from None
