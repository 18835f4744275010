"""Segmentation by a light decoder on the frozen grid of a tower, with and without what its texts say of each place (Table 25).

The decoder has a projection and two convolutions, each of which doubles the grid. With texts it also gets, for each structure, how
near each place lies to the structure's name in the space that the tower was trained in. What it draws is laid back onto the
photograph and measured there, so that towers with other sizes and ways of squaring are measured alike.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, normalize

from mgll.evaluation.drawn_areas import Segmentation, dice, intersection_over_union
from mgll.evaluation.features import Precision, grids_of
from mgll.evaluation.squares import mask_at, mask_to_square, square_to_image
from mgll.evaluation.stopping import Kept, train_until_best
from mgll.evaluation.towers import Tower
from mgll.evaluation.zero_shot import text_reader
from mgll.images.preprocessing import open_image
from mgll.manifest.masks import Mask, open_mask
from mgll.manifest.records import Record

#: Pixels of the longer side of the photograph on which areas are measured.
MEASURED = 512
#: The decoder's output is so many times finer than the grid.
_FINER = 4
_WIDTH, _LEARNING_RATE, _WEIGHT_DECAY = 64, 1e-3, 0.05
EPOCHS, _PATIENCE, _BATCH = 100, 10, 8
_SAMPLE = 256


class Decoder(nn.Module):
    """Logits of structures on a grid four times as fine, of a frozen grid."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor, structures: int, texts: int) -> None:
        """Start at random weights.

        Args:
            mean: of the grid's channels [width].
            deviation: of the grid's channels [width].
            structures: how many are drawn.
            texts: how many text channels come along.
        """
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.project = nn.Conv2d(len(mean) + texts, _WIDTH, 1)
        self.finer = nn.ModuleList([nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1) for _ in range(2)])
        self.norms = nn.ModuleList([nn.GroupNorm(8, _WIDTH) for _ in range(3)])
        self.draw = nn.Conv2d(_WIDTH, structures, 1)

    def forward(self, grid: Tensor, texts: Tensor | None = None) -> Tensor:
        """Logits [B, structures, 4 g, 4 g] of grids [B, g * g, width] and text channels [B, g * g, structures]."""
        side = int(grid.shape[1] ** 0.5)
        scaled = (grid.float() - self.mean) / self.deviation
        whole = scaled if texts is None else torch.cat([scaled, texts], dim=2)
        found = self.norms[0](self.project(whole.mT.unflatten(2, (side, side)))).relu()
        for convolution, norm in zip(self.finer, self.norms[1:], strict=True):
            finer = interpolate(found, scale_factor=2, mode="bilinear", align_corners=False)
            found = norm(convolution(finer)).relu()
        return self.draw(found)


def segment(
    tower: Tower,
    records: Sequence[Record],
    masks: Mapping[str, Mapping[str, Mask]],
    cache: str,
    texts: bool = False,
    split: str = "test",
    text_encoder: str | None = None,
    precision: Precision = "auto",
    epochs: int = EPOCHS,
    begun: Path | None = None,
) -> Segmentation:
    """Train a decoder on split `train`, as long as `val` gains, and measure what it draws on `split`.

    Args:
        tower: the tower.
        records: images of the manifest; one without a mask takes no part.
        masks: absolute path of an image -> label -> mask.
        cache: folder of the features' cache.
        texts: whether the decoder gets what the texts say.
        split: the images that are measured.
        text_encoder: folder of the text encoder, where it has moved.
        precision: see `mgll.evaluation.features.grids_of`.
        epochs: most epochs of the decoder.
        begun: folder in which the decoder is kept after each epoch, so that the same call goes on there after a kill. It is for
            this very call alone: delete it afterwards, and whenever tower, images or masks change. None keeps nothing.

    Raises:
        ImageError: for an image or a mask that cannot be read, or does not fit.
        ValueError: if there is no epoch, a split has no mask, `val` none of what `train` teaches, or `split` none of these
            structures; for `texts`, if the tower has no text side.
    """
    if epochs < 1:
        raise ValueError(f"--epochs {epochs}: give 1 or more")
    by_split = {name: [r for r in records if r.split == name and _key(r) in masks] for name in ("train", "val", split)}
    if missing := [name for name, own in by_split.items() if not own]:
        raise ValueError(f"no image of split {missing[0]!r} has a mask")
    labels = sorted({label for record in by_split["train"] for label in masks[_key(record)]})
    known = list({record.image: record for own in by_split.values() for record in own})
    of = dict(zip(known, grids_of(tower, known, cache, precision), strict=True))
    grids = {name: [of[record.image] for record in own] for name, own in by_split.items()}
    said_by_texts = _text_channels(tower, labels, text_encoder) if texts else None
    side = _FINER * round(grids["train"][0].shape[0] ** 0.5)
    truths = {name: _targets(tower, by_split[name], masks, labels, side) for name in ("train", "val")}
    if truths["val"].isnan().all():
        raise ValueError(
            f"no image of split 'val' was looked at for {' or '.join(labels)}, which split 'train' teaches"
        )
    device = _device()
    seed = int(tower.digest[:8], 16)
    torch.manual_seed(seed)
    rows = np.random.default_rng(seed).permutation(len(grids["train"]))[:_SAMPLE]
    sample = torch.from_numpy(np.concatenate([grids["train"][row] for row in rows])).float()
    deviation = sample.std(dim=0)
    deviation[deviation == 0] = 1
    decoder = Decoder(sample.mean(dim=0), deviation, len(labels), len(labels) if texts else 0).to(device)

    def drawn(own: Sequence[np.ndarray]) -> Tensor:
        batch = torch.from_numpy(np.stack(own)).float().to(device)
        channels = said_by_texts(batch) if said_by_texts else None
        return decoder(batch, channels)

    optimizer = torch.optim.AdamW(decoder.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    epoch = _epochs(optimizer, drawn, grids["train"], truths["train"], seed)
    kept = Kept(begun, optimizer) if begun else None
    best, reached = train_until_best(
        decoder, epoch, lambda: _soft_dice(drawn, grids["val"], truths["val"]), epochs, _PATIENCE, "decoder", kept
    )
    said = f"{reached} epochs chosen on validation, mean soft Dice there {best:.3f}"
    if reached == epochs:
        said += "; that is the last epoch that --epochs allows: more may draw better"
    if unseen := [
        label for label, own in zip(labels, truths["train"].transpose(0, 1), strict=True) if not (own > 0).any()
    ]:
        said += f"; no training image has {' or '.join(unseen)}, so nobody taught it"
    return _measured(tower, by_split[split], masks, labels, drawn, grids[split], texts, said)


def _key(record: Record) -> str:
    return os.path.normpath(os.path.abspath(record.image))  # noqa: PTH100 (no Path: it may lie in a shard)


def _device() -> torch.device:
    # here, because it takes a second to import
    from mgll.training.distributed import process_state

    return process_state().device


def _text_channels(tower: Tower, labels: Sequence[str], text_encoder: str | None) -> Callable[[Tensor], Tensor]:
    """A function from grids [B, places, width] to cosines with each label over the temperature [B, places, labels]."""
    if tower.path is None:
        raise ValueError(f"{tower.name} is no tower file and brings no text side")
    reader = text_reader(tower.path, text_encoder)
    points = torch.from_numpy(reader.points(labels))

    def channels(grid: Tensor) -> Tensor:
        places = reader.side.image_features(grid.cpu().flatten(0, 1)).unflatten(0, grid.shape[:2])
        return (places @ normalize(points, dim=1).T).to(grid.device) / reader.side.facts.temperature

    return channels


def _targets(
    tower: Tower, records: Sequence[Record], masks: Mapping[str, Mapping[str, Mask]], labels: Sequence[str], side: int
) -> Tensor:
    """Share of each cell that each structure covers [n, labels, side, side]; NaN where the image was not looked at for it."""
    found = np.full((len(records), len(labels), side, side), np.nan, dtype=np.float32)
    for row, record in enumerate(records):
        width, height = open_image(record.image).size
        for column, label in enumerate(labels):
            if label in masks[_key(record)]:
                mask = open_mask(masks[_key(record)][label], height, width)
                found[row, column] = mask_to_square(mask, tower.preprocessing, side)
    return torch.from_numpy(found)


def _epochs(
    optimizer: torch.optim.Optimizer,
    drawn: Callable[[Sequence[np.ndarray]], Tensor],
    grids: Sequence[np.ndarray],
    truth: Tensor,
    seed: int,
) -> Callable[[int], None]:
    """A function that trains for the epoch of a number, which decides the order: cross-entropy and soft Dice, where was looked."""

    def epoch(number: int) -> None:
        order = np.random.default_rng([seed, number]).permutation(len(grids))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            logits = drawn([grids[row] for row in rows])
            target = truth[rows].to(logits.device)
            known = ~target.isnan()
            loss = (
                binary_cross_entropy_with_logits(logits[known], target[known]) + 1 - _overlap(logits, target).nanmean()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def _overlap(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice of each structure over a batch [labels]; NaN where none was looked at."""
    known = ~target.isnan()
    likely, true = logits.sigmoid() * known, target.nan_to_num() * known
    both, either = (likely * true).sum(dim=(0, 2, 3)), (likely + true).sum(dim=(0, 2, 3))
    found = (2 * both + 1) / (either + 1)
    return torch.where(known.any(dim=3).any(dim=2).any(dim=0), found, torch.nan)


@torch.no_grad()
def _soft_dice(drawn: Callable[[Sequence[np.ndarray]], Tensor], grids: Sequence[np.ndarray], truth: Tensor) -> float:
    logits = torch.cat([drawn(grids[start : start + _BATCH]).cpu() for start in range(0, len(grids), _BATCH)])
    return float(_overlap(logits, truth).nanmean())


@torch.no_grad()
def _measured(
    tower: Tower,
    records: Sequence[Record],
    masks: Mapping[str, Mapping[str, Mask]],
    labels: Sequence[str],
    drawn: Callable[[Sequence[np.ndarray]], Tensor],
    grids: Sequence[np.ndarray],
    texts: bool,
    said: str,
) -> Segmentation:
    """Dice and IoU of each structure on each photograph."""
    numbers: dict[str, list[tuple[float, float]]] = {label: [] for label in labels}
    seen: dict[str, list[Record]] = {label: [] for label in labels}
    nothing: dict[str, list[bool]] = {label: [] for label in labels}
    for record, grid in zip(records, grids, strict=True):
        squares = drawn([grid])[0].sigmoid().cpu().numpy()
        width, height = open_image(record.image).size
        scale = min(1.0, MEASURED / max(width, height))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        for label, square in zip(labels, squares, strict=True):
            if label not in masks[_key(record)]:
                continue
            mask = open_mask(masks[_key(record)][label], height, width)
            truth = mask_at(mask, *size)
            area = square_to_image(square, tower.preprocessing, *size) >= 0.5
            if truth.any():
                numbers[label].append((dice(truth, area), intersection_over_union(truth, area)))
                seen[label].append(record)
            else:
                nothing[label].append(not area.any())
    kept = [label for label in labels if numbers[label]]
    if not kept:
        raise ValueError(f"no image that is measured has {' or '.join(labels)}: there is nothing to draw on them")
    return Segmentation(
        tower.name,
        tower.digest,
        texts,
        {label: np.array(numbers[label]) for label in kept},
        {label: tuple(record.image for record in seen[label]) for label in kept},
        {label: tuple(record.patient for record in seen[label]) for label in kept},
        {label: (len(own), float(np.mean(own)) if own else 1.0) for label, own in nothing.items()},
        said,
    )
