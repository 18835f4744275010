"""Questions that are not trained on: which they are, and how well the model answers them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from mgll.vocabulary.questions import LETTERS
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.finetuning.augmentation import PLAIN
from mllm_adapters.finetuning.forward import forward
from mllm_adapters.finetuning.images import Images
from mllm_adapters.finetuning.loader import Examples, prepared
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion


@dataclass(frozen=True)
class Validation:
    """The answers to questions that are not trained on.

    Attributes:
        loss: mean loss of a question.
        accuracy: share of the questions whose right letter is more probable than the three others, as scoring reads it.
    """

    loss: float
    accuracy: float


def hold_out(
    questions: Sequence[TrainingQuestion], share: float, seed: int
) -> tuple[list[TrainingQuestion], list[TrainingQuestion]]:
    """Split questions into those to train on and those of a share of the patients, at least one, drawn by `seed`.

    Raises:
        ValueError: if all questions are of one patient.
    """
    if not share:
        return list(questions), []
    groups = sorted({_group(question) for question in questions})
    if len(groups) < 2:
        raise ValueError("held_out: all questions are of one patient, so none can be held out; set held_out to 0")
    count = min(max(1, round(share * len(groups))), len(groups) - 1)
    order = np.random.default_rng([seed, len(groups)]).permutation(len(groups))
    held = {groups[place] for place in order[:count]}
    return [q for q in questions if _group(q) not in held], [q for q in questions if _group(q) in held]


def _group(question: TrainingQuestion) -> str:
    return question.group or str(question.image)


def validate(
    accelerator: Accelerator,
    model: Any,
    loaded: LoadedHost,
    examples: Examples,
    first: int,
    images: Images,
    settings: FinetuneSettings,
    batch_size: int,
) -> Validation:
    """Ask the questions held out. Collective: all processes must call it, and share the questions.

    Args:
        accelerator: the processes.
        model: the model as it is trained.
        loaded: the same, unwrapped.
        examples: all examples; from index `first` on they are the questions held out.
        first: see `examples`.
        images: makes image inputs.
        settings: those of the run.
        batch_size: questions that a process forwards at once.
    """
    rounds = list(_rounds(range(first, len(examples.examples)), batch_size, accelerator))
    batches = ([examples.view(index, PLAIN, images.size) for index, _ in own] for own in rounds)
    model.eval()
    sums = torch.zeros(3, device=accelerator.device)
    with torch.no_grad():
        for own, batch in zip(rounds, prepared(examples, batches, settings), strict=True):
            outcome = forward(model, loaded, batch, images, accelerator.device)
            for row, (index, counts) in enumerate(own):
                question = examples.examples[index]
                assert isinstance(question, TrainingQuestion)
                letters = list(examples.preparation.texts.letters(question.question))
                chosen = outcome.first[row, letters].argmax()
                right = chosen == LETTERS.index(question.letter)
                sums += counts * torch.stack([outcome.losses[row], right.float(), torch.ones_like(outcome.losses[row])])
    model.train()
    loss, right, count = accelerator.reduce(sums, reduction="sum").tolist()
    return Validation(loss / count, right / count)


def _rounds(indices: range, batch_size: int, accelerator: Accelerator) -> Iterator[list[tuple[int, int]]]:
    """Batches of this process: indices and whether they count. All processes get as many batches; what pads them does not count."""
    processes, mine = accelerator.num_processes, accelerator.process_index
    for start in range(0, len(indices), batch_size * processes):
        own = range(start + mine * batch_size, start + (mine + 1) * batch_size)
        found = [(indices[place], 1) for place in own if place < len(indices)]
        yield found or [(indices[0], 0)]
