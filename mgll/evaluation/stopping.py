"""What readings that train have in common: a loss in which both kinds of images weigh alike, and the end that validation sets."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from mgll.training.checkpoint import checkpoint_state, load_checkpoint, newest_checkpoint, save_checkpoint


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


@dataclass(frozen=True)
class Kept:
    """Where a training is kept after every epoch, so that a killed one goes on from there.

    Attributes:
        folder: of its checkpoints, from the best epoch to the newest; for this training alone.
        optimizer: its AdamW, whose moments are kept too.
    """

    folder: Path
    optimizer: torch.optim.Optimizer

    def save(self, number: int, module: nn.Module, best: float, reached: int) -> None:
        """Keep the module as it is after the epoch of this number."""
        state = {"best": best, "reached": reached}
        save_checkpoint(self.folder, number, module, self.optimizer, state, keep=number - reached + 1)

    def restore(self, module: nn.Module) -> "tuple[int, float, int, dict[str, Tensor]] | None":
        """Make module and optimizer what they were after the newest epoch that was kept; None if none was.

        Returns:
            The number of that epoch, the best value, its epoch, and its weights.
        """
        newest = newest_checkpoint(self.folder)
        if newest is None:
            return None
        state, weights = checkpoint_state(newest), _state(module)
        if state["reached"]:
            load_checkpoint(newest.with_name(f"step-{state['reached']:08d}"), module, self.optimizer)
            weights = _state(module)
        load_checkpoint(newest, module, self.optimizer)
        return state["step"], state["best"], state["reached"], weights


def train_until_best(
    module: nn.Module,
    epoch: Callable[[int], None],
    judge: Callable[[], float],
    epochs: int,
    patience: int,
    what: str,
    kept: Kept | None = None,
) -> tuple[float, int]:
    """Train epoch by epoch, and leave the module with the weights that validation judged best; they may be those of the start.

    A training that is kept and was killed goes on behind its last whole epoch, and ends in the very same weights where `epoch`
    depends on the module, the optimizer and the number alone.

    Args:
        module: what is trained; parameters that are not trained stay as they are.
        epoch: trains it for the epoch of this number.
        judge: a number of the module on validation, the higher the better.
        epochs: most epochs.
        patience: so many epochs in a row without a better one end it.
        what: name of the work, for the progress bar.
        kept: where it is kept; None keeps nothing.

    Returns:
        The best number, and after how many epochs it was reached.
    """
    begun = kept.restore(module) if kept else None
    if begun:
        tqdm.write(f"{what} goes on after epoch {begun[0]}")
    done, best, reached, weights = begun or (0, judge(), 0, _state(module))
    bar = tqdm(initial=done, total=epochs, desc=what, unit="epoch", leave=False)
    while done < epochs and done - reached < patience:
        done += 1
        epoch(done)
        value = judge()
        if value > best:
            best, reached, weights = value, done, _state(module)
        if kept:
            kept.save(done, module, best, reached)
        bar.set_postfix(best=f"{best:.3f}", refresh=False)
        bar.update()
    bar.close()
    module.load_state_dict(weights, strict=False)
    return best, reached


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all that training changes."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value.detach().clone() for name, value in module.state_dict().items() if name not in frozen}
