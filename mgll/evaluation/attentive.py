"""An attentive probe: one learned query looks over the frozen grid of an image, and a linear layer reads what it found.

It tells what a tower's patches hold beyond their mean, and is fair to towers whose class token was never trained (Table 15 ff. read
pooled features alone). The query and the keys of a head meet in a product alone, so one vector a head stands for both.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mgll.evaluation.probe import judged_auc
from mgll.evaluation.stopping import Balance, Kept, train_until_best

#: Learning rates of AdamW that are tried; validation chooses.
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
_WEIGHT_DECAY = 0.05
_EPOCHS, _PATIENCE, _BATCH = 30, 5, 64
#: Channels of a head, as in ViTs.
_HEAD = 64
#: Images from which mean and deviation of the channels are taken.
_SAMPLE = 512


class AttentiveProbe(nn.Module):
    """Cross attention of one learned query over a grid, in several heads, and a linear layer behind it.

    The query starts at zero, where all places weigh alike: training begins at the mean of the grid.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor, classes: int) -> None:
        """Start at even attention.

        Args:
            mean: of the grid's channels [width].
            deviation: of the grid's channels [width].
            classes: how many are read.
        """
        super().__init__()
        width = len(mean)
        heads = width // _HEAD if width % _HEAD == 0 else 1
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.query = nn.Parameter(torch.zeros(width, heads))
        self.value = nn.Parameter(torch.randn(heads, width, width // heads) / width**0.5)
        self.classifier = nn.Linear(width, classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def attention(self, grid: Tensor) -> Tensor:
        """How much each head takes of each place [B, places, heads], of a standardised grid [B, places, width]."""
        return (grid @ self.query / len(self.query) ** 0.5).softmax(dim=1)

    def forward(self, grid: Tensor) -> Tensor:
        """Logits [B, classes] of grids [B, places, width]."""
        scaled = (grid.float() - self.mean) / self.deviation
        found = torch.einsum("bph,bpw->bhw", self.attention(scaled), scaled)
        return self.classifier(torch.einsum("bhw,hwd->bhd", found, self.value).flatten(1))

    @torch.no_grad()
    def scores(self, grids: Sequence[np.ndarray]) -> np.ndarray:
        """Logits [n, classes] of grids [places, width] each."""
        device = self.query.device
        batches = (_batch(grids[start : start + 4 * _BATCH], device) for start in range(0, len(grids), 4 * _BATCH))
        return np.concatenate([self(batch).double().cpu().numpy() for batch in batches])


def fit_attentive(
    train: Sequence[np.ndarray],
    train_truth: np.ndarray,
    validation: Sequence[np.ndarray],
    validation_truth: np.ndarray,
    seed: int,
    learning_rates: Sequence[float] = LEARNING_RATES,
    folder: Path | None = None,
) -> tuple[AttentiveProbe, str]:
    """Train an attentive probe for every learning rate, and keep the one, and its epoch, with the best macro AUC on validation.

    Args:
        train: grids [places, width], one for each training image.
        train_truth: whether a training image has a class [N, classes].
        validation: grids of other patients' images.
        validation_truth: [M, classes].
        seed: of start weights and order.
        learning_rates: of AdamW.
        folder: where each epoch is kept, so that a killed training goes on; for this one alone. None keeps nothing.

    Returns:
        The probe, and a sentence that says what was chosen.
    """
    # here, because it takes a second to import
    from mgll.training.distributed import process_state

    device = process_state().device
    rows = np.random.default_rng(seed).permutation(len(train))[:_SAMPLE]
    sample = _batch([train[row] for row in rows], torch.device("cpu")).flatten(0, 1)
    deviation = sample.std(dim=0)
    deviation[deviation == 0] = 1
    balance, truth = Balance.of(train_truth, device), torch.from_numpy(train_truth).float().to(device)
    best: tuple[float, int, float, AttentiveProbe] | None = None
    for rate in learning_rates:
        torch.manual_seed(seed)
        probe = AttentiveProbe(sample.mean(dim=0), deviation, train_truth.shape[1]).to(device)
        optimizer = torch.optim.AdamW(probe.parameters(), lr=rate, weight_decay=_WEIGHT_DECAY)
        epoch, kept = (
            _epochs(probe, optimizer, train, truth, balance, seed),
            Kept(folder / f"{rate:g}", optimizer) if folder else None,
        )

        def judge(probe: AttentiveProbe = probe) -> float:
            return judged_auc(validation_truth, probe.scores(validation))

        value, reached = train_until_best(probe, epoch, judge, _EPOCHS, _PATIENCE, f"attentive probe, {rate:g}", kept)
        if best is None or value > best[0]:
            best = (value, reached, rate, probe)
    assert best is not None
    return best[3], f"learning rate {best[2]:g} and {best[1]} epochs chosen on validation"


def _epochs(
    probe: AttentiveProbe,
    optimizer: torch.optim.Optimizer,
    train: Sequence[np.ndarray],
    truth: Tensor,
    balance: Balance,
    seed: int,
) -> Callable[[int], None]:
    """A function that trains for the epoch of a number."""

    def epoch(number: int) -> None:
        order = np.random.default_rng([seed, number]).permutation(len(train))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            logits = probe(_batch([train[row] for row in rows], truth.device))
            optimizer.zero_grad()
            balance.loss(logits, truth[rows]).backward()
            optimizer.step()

    return epoch


def _batch(grids: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Grids as one float32 tensor [B, places, width]."""
    return torch.from_numpy(np.stack(grids)).to(device).float()
