"""Which examples each step sees: questions epoch by epoch, and beside them a fixed share of conversations."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mgll.training.steps import epoch_order, global_batches
from mllm_adapters.settings import FinetuneSettings


@dataclass(frozen=True)
class Mixture:
    """The order of examples: a pure function of the seed, so that a resumed run goes on with the same.

    Attributes:
        questions: number of examples that epochs count; they have the first indices.
        chats: number of conversations that are mixed in; theirs are the next ones.
        batch_size: examples of a step.
        chats_per_batch: how many of these are conversations.
        seed: seed of the order.
    """

    questions: int
    chats: int
    batch_size: int
    chats_per_batch: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps that go through the questions once."""
        return self.questions // (self.batch_size - self.chats_per_batch)

    def steps(self, settings: FinetuneSettings) -> int:
        """Number of optimiser steps of a run."""
        return settings.steps if settings.steps is not None else settings.epochs * self.steps_per_epoch

    def batches(self, done: int, total: int) -> Iterator[tuple[int, int, list[int]]]:
        """Step, epoch and example indices of every global batch from step `done` on."""
        own, per_epoch = self.batch_size - self.chats_per_batch, self.steps_per_epoch
        for epoch in range(done // per_epoch, math.ceil(total / per_epoch)):
            first = done % per_epoch if epoch == done // per_epoch else 0
            batches = global_batches(self.questions, own, self.seed, epoch, first)
            for step, batch in enumerate(batches, start=epoch * per_epoch + first):
                if step < total:
                    yield step, epoch, self._with_chats(step, batch)

    def _with_chats(self, step: int, batch: list[int]) -> list[int]:
        if not self.chats_per_batch:
            return batch
        places = range(step * self.chats_per_batch, (step + 1) * self.chats_per_batch)
        drawn = [int(epoch_order(self.chats, self.seed + 1, p // self.chats)[p % self.chats]) for p in places]
        mixed = [*batch, *(self.questions + index for index in drawn)]
        # spread over the processes, whose steps take as long as their longest example
        return [mixed[i] for i in np.random.default_rng([self.seed, step]).permutation(len(mixed))]


def mixture(settings: FinetuneSettings, questions: int, chats: int) -> Mixture:
    """The mixture that the settings ask for.

    Raises:
        ValueError: if there are fewer questions than a batch needs, or a share of conversations without conversations.
    """
    if bool(chats) != bool(settings.chat_share):
        raise ValueError(
            f"chat_share is {settings.chat_share} and there are {chats} conversations; give both a share and a file, or neither"
        )
    drawn = max(1, round(settings.chat_share * settings.batch_size)) if chats else 0
    if questions < settings.batch_size - drawn or settings.batch_size == drawn:
        raise ValueError(f"{questions} questions are fewer than one batch of {settings.batch_size}; lower --batch-size")
    return Mixture(questions, chats, settings.batch_size, drawn, settings.seed)
