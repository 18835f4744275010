"""Fine-tuning of a tower, whole or its last blocks, from where its linear probe stands, as long as validation gains by it.

The classifier starts as the linear probe of the frozen features (Kumar 2022), so that the first steps do not undo what pretraining
made, and a tower that gains nothing reads as its probe does. AdamW; a block's learning rate falls by a factor from each block to
the one before it.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mgll.encoders.last_layers import block_numbers, layers_of, train_last
from mgll.evaluation.probe import Probe, judged_auc
from mgll.evaluation.stopping import Balance, Kept, train_until_best
from mgll.evaluation.towers import Tower
from mgll.images.preprocessing import Preprocessing, normalise
from mgll.tower.config import Pooling
from mgll.tower.features import Squares
from mgll.tower.model import freeze_unused, image_feature

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LEARNING_RATE, LAYER_DECAY, WEIGHT_DECAY = 1e-4, 0.75, 0.05
_PATIENCE, _BATCH = 3, 32


class TowerClassifier(nn.Module):
    """A tower with a linear layer behind its pooled feature, which starts as a linear probe.

    Attributes:
        model: the tower's model.
        classifier: the linear layer.
        pooling: which of the tower's outputs is the feature.
        preprocessing: how images become its input.
    """

    def __init__(self, model: "PreTrainedModel", pooling: Pooling, preprocessing: Preprocessing, probe: Probe) -> None:
        super().__init__()
        self.model, self.pooling, self.preprocessing = model, pooling, preprocessing
        weights = probe.weights / probe.deviation[:, None]
        self.classifier = nn.Linear(*weights.shape)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.from_numpy(weights.T))
            self.classifier.bias.copy_(torch.from_numpy(probe.offsets - probe.mean @ weights))

    def forward(self, squares: Tensor) -> Tensor:
        """Logits [B, classes] of square images uint8 [B, 3, size, size]."""
        pixels = normalise(squares, self.preprocessing)
        half = torch.autocast("cuda", dtype=torch.bfloat16) if pixels.is_cuda else nullcontext()
        with half:
            feature = image_feature(self.model, pixels, self.pooling)
        return self.classifier(feature.float())

    @torch.no_grad()
    def scores(self, images: Sequence[str], device: torch.device) -> np.ndarray:
        """Logits [n, classes] of images.

        Raises:
            ImageError: for an image that cannot be read.
        """
        self.eval()
        return np.concatenate([self(s.to(device)).double().cpu().numpy() for s in _loader(images, self.preprocessing)])


def fine_tuned_scores(
    tower: Tower,
    images: Sequence[Sequence[str]],
    truths: Sequence[np.ndarray],
    probe: Probe,
    blocks: int | Literal["full"],
    seed: int,
    epochs: int,
    folder: Path | None = None,
) -> tuple[np.ndarray, str]:
    """Fine-tune a tower on the classes, and read with the weights that validation found best.

    Args:
        tower: the tower.
        images: paths of the training images, those that choose, and those that are read.
        truths: whether an image has a class, of the first two [n, classes].
        probe: the linear probe of the frozen features, from which it starts.
        blocks: so many of the last blocks are trained, with what lies behind them; `full` is all.
        seed: of the order of images, their flips and dropout.
        epochs: most epochs.
        folder: where each epoch is kept, so that a killed fine-tuning goes on; for this one alone. None keeps nothing.

    Returns:
        Logits [n, classes] of the images that are read, and a sentence that says what was chosen.

    Raises:
        ImageError: for an image that cannot be read.
        ValueError: if the tower has fewer blocks.
    """
    # here, because it takes a second to import
    from mgll.training.distributed import process_state

    device = process_state().device
    model = TowerClassifier(tower.load(), tower.pooling, tower.preprocessing, probe)
    model.model.requires_grad_(True)
    freeze_unused(model.model, tower.preprocessing.size, tower.pooling)
    if blocks != "full":
        train_last(model.model, blocks, "fine_tune")
    model.to(device)
    optimizer = _adamw(model)
    epoch = _epochs(model, optimizer, images[0], truths[0], seed, epochs, device)
    _, reached = train_until_best(
        model,
        epoch,
        lambda: judged_auc(truths[1], model.scores(images[1], device)),
        epochs,
        _PATIENCE,
        f"fine-tuning {blocks}",
        Kept(folder, optimizer) if folder else None,
    )
    said = f"{reached} epochs chosen on validation" if reached else "validation gained nothing: reads as its probe"
    if reached == epochs:
        said += "; that is the last one that --fine-tune-epochs allows: more may read better"
    return model.scores(images[2], device), said


def learning_rates(
    model: "PreTrainedModel", rate: float = LEARNING_RATE, decay: float = LAYER_DECAY
) -> dict[str, float]:
    """The learning rate of each parameter that is trained: `rate` from the last block on, and `decay` of it a block before."""
    named = {id(module): name for name, module in model.named_modules()}
    blocks = [named[id(block)] for block in layers_of(model)]
    numbers = block_numbers([name for name, _ in model.named_parameters()], blocks)
    last = max(len(blocks) - 1, 0)
    trained = (name for name, parameter in model.named_parameters() if parameter.requires_grad)
    return {name: rate * decay ** max(0, last - numbers[name]) for name in trained}


def _adamw(model: TowerClassifier) -> torch.optim.AdamW:
    rates, groups = learning_rates(model.model), defaultdict(list)
    for name, parameter in model.model.named_parameters():
        if name in rates:
            groups[rates[name]].append(parameter)
    groups[LEARNING_RATE] += model.classifier.parameters()
    return torch.optim.AdamW([{"params": own, "lr": rate} for rate, own in groups.items()], weight_decay=WEIGHT_DECAY)


def _epochs(
    model: TowerClassifier,
    optimizer: torch.optim.Optimizer,
    images: Sequence[str],
    truth: np.ndarray,
    seed: int,
    epochs: int,
    device: torch.device,
) -> Callable[[int], None]:
    """A function that trains for the epoch of a number, which decides order, flips, dropout and learning rates.

    The learning rate rises over the first epoch and falls along a cosine.
    """
    steps, rates = -(-len(images) // _BATCH), [group["lr"] for group in optimizer.param_groups]
    balance, answers = Balance.of(truth, device), torch.from_numpy(truth).float()

    def epoch(number: int) -> None:
        model.train()
        torch.manual_seed(int(np.random.default_rng([seed, number, 2]).integers(2**63)))  # of dropout
        order = np.random.default_rng([seed, number]).permutation(len(images)).tolist()
        flips = torch.from_numpy(np.random.default_rng([seed, number, 1]).random(len(order)) < 0.5)
        start = 0
        for step, squares in enumerate(
            _loader([images[row] for row in order], model.preprocessing), (number - 1) * steps
        ):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min((step + 1) / steps, (1 + np.cos(np.pi * step / (steps * epochs))) / 2)
            rows = order[start : start + len(squares)]
            flip = flips[start : start + len(squares)]
            squares[flip] = squares[flip].flip(-1)
            optimizer.zero_grad()
            balance.loss(model(squares.to(device)), answers[rows].to(device)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            start += len(squares)

    return epoch


def _loader(images: Sequence[str], preprocessing: Preprocessing) -> "DataLoader[Tensor]":
    squares = Squares(images, preprocessing)
    workers = 0 if not torch.cuda.is_available() else 8
    return DataLoader(squares, _BATCH, num_workers=workers)  # type: ignore[arg-type]
