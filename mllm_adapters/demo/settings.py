"""Settings of the demo's host and of its decoder. Imports no torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DemoHostSettings:
    """How tower and decoder are joined.

    Attributes:
        feature_layer: the tower's hidden state that the connector reads; -1, the last, because a tower pretrained with `mean`
            pooling has its meaning there.
        feature_select: `default` drops the class token, `full` keeps it.
        seed: of the connector's weights.
    """

    feature_layer: int = -1
    feature_select: Literal["default", "full"] = "default"
    seed: int = 0


@dataclass(frozen=True)
class DecoderTraining:
    """How the decoder is warmed.

    Attributes:
        steps: optimiser steps.
        batch_size: questions a step.
        learning_rate: AdamW's peak, after a warm-up of 50 steps; cosine to a tenth.
        width: of the decoder.
        depth: number of its blocks.
        auxiliary: weight of the auxiliary losses; their heads are thrown away.
        words_first: share of the steps, at the start, that see findings in words only.
        spread: share of the later batches whose finding is spread over image positions instead of being written in words.
        single: share of those batches that have one such position, as a tower's pooled feature has.
        most_positions: largest number of such positions.
        match: factor on the lower blocks' queries and keys, which start equal, so that a word looks at the same word elsewhere.
        noise: largest standard deviation of noise on image positions, in units of the mixtures' own.
        seed: of weights and questions.
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
