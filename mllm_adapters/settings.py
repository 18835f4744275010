"""Settings and questions of fine-tuning. Imports no torch."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

from mgll.bounds import Bounds
from mgll.images.preprocessing import Decode

#: Published recipes scale by 0.25 to 32; beyond this the language model would hear nothing but LoRA.
LARGEST_SCALE = 1000
#: In what the weights that are not trained are held: by checkpoint and device (`mllm_adapters.loading.precision`), or as named.
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
#: Bits of the language model's weights: as `Dtype` says, 4 (QLoRA's), or 8.
Quantisation = Literal["no", "nf4", "int8"]
#: Where the parts of a model lie: spread by `auto`, by module and device, or all on one device.
DeviceMap = str | Mapping[str, str | int] | None
QUANTISATIONS: tuple[Quantisation, ...] = get_args(Quantisation)


@dataclass(frozen=True)
class TrainingQuestion:
    """One question to learn.

    Attributes:
        image: path of the image.
        question: the text that goes with it, options included (`mgll.vocabulary.questions.question_text`), without the conversation
            form of the host.
        letter: the right answer, `A` to `D`.
        caption: the right answer in words, for `FinetuneSettings.align`.
        group: patient or eye; questions of one group are held out together. Empty: the image stands for its group.
    """

    image: Path
    question: str
    letter: str
    caption: str = ""
    group: str = ""


@dataclass(frozen=True)
class Conversation:
    """Replies about an image to learn in whole: a caption, or what a general data set of conversations holds.

    Attributes:
        image: path of the image.
        turns: what is asked and what is replied, turn after turn.
    """

    image: Path
    turns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FinetuneSettings:
    """One fine-tuning run: LoRA on the language model, the connector in full, the tower frozen unless `tower` says otherwise.

    Attributes:
        rank: rank of LoRA; 0 trains no language model.
        alpha: LoRA's scale is alpha / rank.
        dropout: dropout rate on LoRA's input.
        lora_targets: regex, matched against whole module names, in place of `Host.lora_targets`.
        rslora: scale LoRA by alpha / sqrt(rank), which keeps large ranks from learning slowly.
        dora: split LoRA's update into direction and magnitude (DoRA).
        tower: what of the vision tower is trained: nothing, LoRA (of `rank`) on its layers, its last `tower_layers` blocks, or all.
        tower_layers: number of blocks that `last` trains, counted from the last one that the host reads.
        learning_rate: peak learning rate of AdamW for LoRA: linear warm-up, then cosine decay to 0.
        connector_learning_rate: peak learning rate of AdamW for the connector, on the schedule of `learning_rate`.
        tower_learning_rate: the same for what is trained of the tower.
        layer_decay: factor on the tower's learning rate from each block to the one before it.
        weight_decay: weight decay of AdamW.
        warmup: share of the steps that warm up.
        clip_grad: largest gradient norm.
        epochs: passes over the questions.
        steps: number of optimiser steps; where given, `epochs` is ignored.
        align: start by fitting the connector's last linear map in closed form to the captions
            (`mllm_adapters.finetuning.alignment`).
        align_epochs: passes over captions in a stage before the questions, in which the connector alone is trained.
        batch_size: questions per step, over all processes and accumulated batches together.
        gradient_accumulation_steps: number of smaller batches of which a step adds up the gradients; the step is the same, with
            less memory. None: what the launcher says, else 1.
        chat_share: share of each batch that is drawn from conversations of a general data set instead of the questions.
        max_tokens: tokens at which conversations are cut.
        held_out: share of the patients whose questions are not trained on but validate the run.
        validate_every: steps between validations on the questions held out. The weights with the lowest loss there are the result.
        crop_scale: smallest share of an image's area that a random crop keeps; 1 crops nothing.
        flip: probability of a left-right flip.
        colour_jitter: largest random change of brightness, contrast and saturation.
        decode: `draft` decodes large JPEG files at a lower resolution, of which the processor's square still takes a third or less
            (`mgll.images.decoding`); `exact` in full, as every host can.
        views: number of augmented views of an image, shown in turn, so that a frozen tower's outputs can be kept; None shows a new
            one in each epoch.
        seed: seed of LoRA's initial weights, of the order of questions, and of dropout.
        dtype: dtype of the weights that stay as they are. `auto` keeps float32, and turns half precision into bfloat16 where the
            device is good at it, into float32 elsewhere. Under float16 the loss is scaled, so that gradients neither vanish nor
            overflow. What is trained is float32 in any case.
        mixed_precision: the setting of accelerate; use `no` on a CPU.
        gradient_checkpointing: compute activations again in the backward pass, which takes less memory and more time.
        quantize: load the language model in 4 bits (`nf4`) or 8 (`int8`) with bitsandbytes.
        device_map: `auto` spreads a model that is larger than one card over all cards of one process.
        image_cache_gib: memory in GiB for the outputs of the frozen tower, so that it runs only once per image. Where they do not
            fit, the tower runs every time.
        feature_cache: folder in which the outputs of the frozen tower are kept, for this run and all others with the same tower,
            instead of in memory.
        feature_cache_gib: size in GiB at which nothing more is written there.
        workers: processes that read and prepare images, for each process that trains; 0: images are read between steps.
        prefetch: batches that each of them prepares ahead.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of metrics.jsonl.
        trackers: names of accelerate's trackers that get the same numbers (`tensorboard`, `wandb`, ...).
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    lora_targets: str | None = None
    rslora: bool = False
    dora: bool = False
    tower: Literal["frozen", "lora", "last", "full"] = "frozen"
    tower_layers: int = 4
    learning_rate: float = 2e-4
    connector_learning_rate: float = 1e-3
    tower_learning_rate: float = 1e-5
    layer_decay: float = 1.0
    weight_decay: float = 0.0
    warmup: float = 0.03
    clip_grad: float = 1.0
    epochs: int = 1
    steps: int | None = None
    align: bool = False
    align_epochs: int = 0
    batch_size: int = 16
    gradient_accumulation_steps: int | None = None
    chat_share: float = 0.0
    max_tokens: int = 2048
    held_out: float = 0.0
    validate_every: int = 100
    crop_scale: float = 1.0
    flip: float = 0.0
    colour_jitter: float = 0.0
    decode: Decode = "exact"
    views: int | None = None
    seed: int = 0
    dtype: Dtype = "auto"
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    quantize: Quantisation = "no"
    device_map: Literal["auto"] | None = None
    image_cache_gib: float = 2.0
    feature_cache: str | None = None
    feature_cache_gib: float = 100.0
    workers: int = 0
    prefetch: int = 2
    checkpoint_every: int = 100
    log_every: int = 10
    trackers: tuple[str, ...] = ()

    bounds: ClassVar[Bounds] = {
        "epochs": (1, math.inf),
        "steps": (1, math.inf),
        "learning_rate": (0, math.inf),
        "connector_learning_rate": (0, math.inf),
        "tower_learning_rate": (0, math.inf),
        "weight_decay": (0, math.inf),
        "warmup": (0, 1),
        "clip_grad": (0, math.inf),
        "image_cache_gib": (0, math.inf),
        "feature_cache_gib": (0, math.inf),
        "tower_layers": (1, math.inf),
        "layer_decay": (1e-9, 1),
        "align_epochs": (0, math.inf),
        "batch_size": (1, math.inf),
        "gradient_accumulation_steps": (1, math.inf),
        "chat_share": (0, 0.9),
        "max_tokens": (16, math.inf),
        "held_out": (0, 0.9),
        "validate_every": (1, math.inf),
        "crop_scale": (0.01, 1),
        "flip": (0, 1),
        "colour_jitter": (0, 1),
        "views": (1, math.inf),
        "workers": (0, 1024),
        "prefetch": (1, 1024),
        "checkpoint_every": (1, math.inf),
        "log_every": (1, math.inf),
    }

    @property
    def augments(self) -> bool:
        """Whether images are changed at random."""
        return self.crop_scale < 1 or self.flip > 0 or self.colour_jitter > 0


#: Settings that may have other values when a run is resumed, because its weights do not depend on them.
MAY_CHANGE = (
    "device_map",
    "feature_cache",
    "feature_cache_gib",
    "workers",
    "prefetch",
    "checkpoint_every",
    "log_every",
    "trackers",
)


def check_trained_parts(settings: FinetuneSettings) -> None:
    """Raise `ValueError` unless LoRA can be built of its settings and does something: rank, alpha, dropout and the regex."""
    if settings.rank < 0:
        raise ValueError(f"rank is {settings.rank}; give 0, which trains the connector alone, or more")
    if settings.tower == "lora" and not settings.rank:
        raise ValueError("tower is lora, and rank 0 trains no LoRA; give a --rank, or another --tower")
    scale = settings.alpha / (settings.rank or 1) ** (0.5 if settings.rslora else 1)
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
