"""What readings that train have in common: a loss in which both kinds of images weigh alike, and the end that validation sets."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm


@dataclass(frozen=True)
class Balance:
    """Weights under which the positives of a class weigh as much as its negatives.

    Attributes:
        odds: negatives for each positive [classes]; 1 for a class that has none of either.
    """

    odds: Tensor

    @classmethod
    def of(cls, truth: np.ndarray, device: torch.device) -> "Balance":
        """Of the training images' truth [n, classes]."""
        positives = truth.sum(axis=0)
        both = (positives > 0) & (positives < len(truth))
        odds = np.where(both, (len(truth) - positives) / np.maximum(positives, 1), 1.0)
        return cls(torch.from_numpy(odds).float().to(device))

    def loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The balanced binary cross-entropy of logits [B, classes] whose sigmoid is a probability at the class's own frequency."""
        return binary_cross_entropy_with_logits(logits + self.odds.log(), truth, pos_weight=self.odds)


def train_until_best(
    module: nn.Module,
    epoch: Callable[[int], None],
    judge: Callable[[], float],
    epochs: int,
    patience: int,
    what: str,
) -> tuple[float, int]:
    """Train epoch by epoch, and leave the module with the weights that validation judged best; they may be those of the start.

    Args:
        module: what is trained; parameters that are not trained stay as they are.
        epoch: trains it for the epoch of this number.
        judge: a number of the module on validation, the higher the better.
        epochs: most epochs.
        patience: so many epochs in a row without a better one end it.
        what: name of the work, for the progress bar.

    Returns:
        The best number, and after how many epochs it was reached.
    """
    best, reached, kept = judge(), 0, _state(module)
    bar = tqdm(range(1, epochs + 1), desc=what, unit="epoch", leave=False)
    for number in bar:
        epoch(number)
        value = judge()
        bar.set_postfix(best=f"{max(best, value):.3f}")
        if value > best:
            best, reached, kept = value, number, _state(module)
        elif number - reached >= patience:
            break
    module.load_state_dict(kept, strict=False)
    return best, reached


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all that training changes."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value.detach().clone() for name, value in module.state_dict().items() if name not in frozen}
