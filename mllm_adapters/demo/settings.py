"""Settings of the demo's host and of its decoder. Imports no torch."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from mgll.bounds import Bounds

#: What stands in the place of a checkpoint for the tiny instance of a family (`mllm_adapters.demo.tiny_hosts`).
TINY = "tiny"


@dataclass(frozen=True)
class DemoHostSettings:
    """How the demo host's tower and decoder are joined.

    Attributes:
        feature_layer: the tower's hidden state that the connector reads; -1 is the last, from which `mean` pooling takes the
            feature that pretraining learns.
        feature_select: `default` drops the class token, `full` keeps it.
        seed: seed of the connector's weights.
    """

    feature_layer: int = -1
    feature_select: Literal["default", "full"] = "default"
    seed: int = 0


@dataclass(frozen=True)
class DecoderTraining:
    """How the demo decoder is trained on text.

    Attributes:
        steps: optimiser steps.
        batch_size: questions per step.
        learning_rate: peak learning rate of AdamW: warm-up of 50 steps, then cosine decay to a tenth of it.
        width: width of the decoder's hidden states.
        depth: number of the decoder's blocks.
        auxiliary: weight of the auxiliary losses; their heads are dropped after training.
        words_first: share of the steps, at the start, that see findings in words only.
        spread: share of the later batches whose finding is spread over image positions instead of being written in words.
        single: share of the spread batches with a single image position, as for a tower that gives one pooled feature.
        most_positions: largest number of image positions in a spread batch.
        match: factor on the lower blocks' queries and keys, which start equal, so that a word attends to the same word elsewhere.
        noise: largest standard deviation of noise on image positions, in units of the mixtures' standard deviation.
        seed: seed of weights and questions.
    """

    steps: int = 900
    batch_size: int = 32
    learning_rate: float = 2e-3
    width: int = 128
    depth: int = 4
    auxiliary: float = 1.0
    words_first: float = 0.3
    spread: float = 0.6
    single: float = 0.5
    most_positions: int = 40
    match: float = 4.0
    noise: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class ReadingTraining:
    """How a language model learns to read questions from text (`mllm_adapters.demo.reading_training`).

    The defaults are those of the decoder for images in front of all text (`mllm_adapters.demo.image_first`).

    Attributes:
        steps: optimiser steps.
        batch_size: questions per step.
        learning_rate: peak learning rate of AdamW, decaying to 0.
        warmup: share of the steps in which the learning rate rises.
        words_first: share of the steps, at the start, that see findings in words only.
        spread: share of the later batches whose finding is a noisy mixture of words, as a connector may write it.
        most_positions: largest number of image positions of such a batch.
        noise: largest standard deviation of that noise, in units of the mixtures' standard deviation.
        centred: mixtures lie around the mean of all names, as those of an aligned connector do. In a pretrained table that mean is
            the larger part of every name; the demo's decoder has none to speak of, and was trained without.
        doubt: largest degree to which all other findings are in such a mixture.
        doubt_rises: share of the steps, after those in words only, in which noise and doubt rise to these from nothing.
        mixed_precision: `bf16` multiplies in bfloat16, which pays on GPUs and on CPUs that do so by themselves.
        checkpoint_every: steps between checkpoints, where any are kept.
        seed: of weights and questions.
    """

    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 2e-3
    warmup: float = 0.0
    words_first: float = 0.0
    spread: float = 0.6
    most_positions: int = 8
    noise: float = 1.0
    centred: bool = False
    doubt: float = 0.8
    doubt_rises: float = 0.0
    mixed_precision: Literal["no", "bf16"] = "no"
    checkpoint_every: int = 50
    seed: int = 0

    bounds: ClassVar[Bounds] = {
        "steps": (1, math.inf),
        "batch_size": (1, math.inf),
        "learning_rate": (0, math.inf),
        "warmup": (0, 1),
        "words_first": (0, 1),
        "spread": (0, 1),
        "most_positions": (1, math.inf),
        "noise": (0, math.inf),
        "doubt": (0, 1),
        "doubt_rises": (0, 1),
        "checkpoint_every": (1, math.inf),
    }
