"""The forward pass of a batch and its loss: every example counts the same, whatever the length of what is learnt."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mgll.training.distributed import to_device
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.finetuning.images import Images
from mllm_adapters.finetuning.loader import Prepared
from mllm_adapters.finetuning.texts import IGNORED
from mllm_adapters.prompting.answer_slot import forward_options


@dataclass(frozen=True)
class Outcome:
    """What a model makes of a batch.

    Attributes:
        losses: mean cross-entropy of each example's learnt tokens [B].
        first: logits of each example's first learnt token [B, vocabulary].
        answers: that token [B].
        questions: which examples are questions [B].
    """

    losses: Tensor
    first: Tensor
    answers: Tensor
    questions: Tensor

    @property
    def right(self) -> Tensor:
        """Number of questions whose most probable token is the right letter, a scalar."""
        return (self.first.argmax(-1) == self.answers)[self.questions].float().sum()


def forward(model: Any, loaded: LoadedHost, batch: Prepared, images: Images, device: torch.device) -> Outcome:
    """Run a batch through the model.

    Args:
        model: the model, wrapped or not.
        loaded: the same model and its host, unwrapped.
        batch: text inputs and images.
        images: makes image inputs, from kept features where there are any.
        device: the model's device.
    """
    texts = batch.texts
    inputs = {name: to_device(value, device) for name, value in texts.inputs.items()}
    options = forward_options(loaded.model, loaded.host, inputs["attention_mask"], texts.keep)
    inputs |= images.batch(batch.images, device)
    logits = model(**inputs, **options).logits[:, -texts.keep :]
    labels = to_device(texts.labels, device)
    at = (labels != IGNORED).long().argmax(1)
    rows = torch.arange(len(labels), device=device)
    return Outcome(
        example_losses(logits, labels), logits[rows, at], labels[rows, at], to_device(texts.questions, device)
    )


def example_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the learnt tokens of each example.

    Args:
        logits: logits of the last positions, from the one before the first learnt token on: [B, 1 + positions, vocabulary].
        labels: token ids to learn, `IGNORED` elsewhere [B, positions].

    Returns:
        Losses [B]. Every process and every accumulated batch has as many examples as the others, therefore the mean of their means
        is that of the whole.
    """
    tokens = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels.flatten(), reduction="none")
    learnt = labels != IGNORED
    return tokens.view(labels.shape).sum(1) / learnt.sum(1).clamp_min(1)
