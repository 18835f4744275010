"""Settings of fine-tuning, and its questions. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class TrainingQuestion:
    """One question to learn.

    Attributes:
        image: path of the image.
        question: all that stands beside it (`mgll.vocabulary.questions.question_text`), without the host's own prompt.
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
        rank: of LoRA; 0 trains the connector alone.
        alpha: LoRA's scale is alpha / rank.
        dropout: of LoRA's input.
        lora_targets: regex over whole module names that replaces the host's.
        learning_rate: peak of AdamW's for LoRA, after a linear warm-up; cosine to 0.
        connector_learning_rate: the same for the connector.
        weight_decay: AdamW's.
        warmup: share of the steps that warm up.
        clip_grad: largest gradient norm.
        epochs: passes over the questions.
        steps: replaces `epochs` where given.
        align: start by fitting the connector's last linear map in closed form to the captions
            (`mllm_adapters.finetuning.alignment`).
        batch_size: questions a step over all processes.
        seed: of LoRA's start, order and dropout.
        dtype: of the weights; `auto` is the checkpoint's, but float32 for a float16 one, which cannot be trained.
        mixed_precision: accelerate's; `no` on a CPU.
        gradient_checkpointing: less memory for more time.
        image_cache_gib: memory for what the frozen tower said of each image, so that it runs once an image; where that does not
            fit, preprocessed images are kept, or nothing.
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
