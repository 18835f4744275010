"""The objective of `mgll.objective` written over occurrences: every string has a column of its own, nothing is shared.

Large and plain on purpose. The fast form must equal it in value and gradient; tests and timings compare the two.

Symbols: N images, T = sum over the images of their texts at a level, D feature width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mgll.objective import Objective


@dataclass(frozen=True)
class Occurrences:
    """One granularity of a batch, string by string.

    Attributes:
        texts: features of every string [T, D], L2-normalised.
        owners: the image of each [T].
        names: equal numbers for equal strings [T].
    """

    texts: Tensor
    owners: Tensor
    names: Tensor


def naive_objective(images: Tensor, levels: Mapping[str, Occurrences], objective: Objective) -> Tensor:
    """The weighted sum of the three terms (Eq. 7), levels apart, for images [N, D]."""
    settings, scale = objective.settings, objective.logit_scale()
    logits = {name: scale * images @ level.texts.T for name, level in levels.items()}
    sclip = [naive_soft_clip(logits[name], level) for name, level in levels.items()]
    pointwise = [naive_pointwise(logits[name] + objective.bias, level) for name, level in levels.items()]
    if settings.pointwise_reduction == "mean":
        pointwise = [term / len(level.owners) for term, level in zip(pointwise, levels.values(), strict=True)]
    kl = naive_smooth_kl(list(logits.values()), list(levels.values()))
    terms = torch.stack([torch.stack(sclip).mean(), torch.stack(pointwise).mean(), kl])
    return terms @ terms.new_tensor([settings.sclip, settings.pointwise, settings.smooth_kl])


def naive_soft_clip(logits: Tensor, level: Occurrences) -> Tensor:
    """Soft CLIP loss of one level over pairs (Eq. 1 to 3) of logits s * sim [N, T]."""
    per_image = level.owners.bincount(minlength=len(logits)).to(logits.dtype)
    pairs = logits[level.owners, torch.arange(len(level.owners))]
    to_texts = pairs - torch.logsumexp(logits, dim=1)[level.owners]
    to_images = pairs - torch.logsumexp(logits + per_image.log().unsqueeze(1), dim=0)
    carriers = _carries(level, len(logits)).sum(0)
    return -(to_texts / per_image[level.owners] + to_images / carriers).sum() / (2 * len(pairs))


def naive_pointwise(logits: Tensor, level: Occurrences) -> Tensor:
    """Point-wise loss of one level over images and occurrences (Eq. 4) of logits s * sim + b [N, T]; mean over its images."""
    present = level.owners.unique()
    targets = _carries(level, len(logits))[present].to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits[present], targets, reduction="sum") / len(present)


def naive_smooth_kl(logits: Sequence[Tensor], levels: Sequence[Occurrences]) -> Tensor:
    """Smooth KL over the images that have every level (Eq. 5 and 6) of logits s * sim [N, T] by level, one column per image."""
    count = len(logits[0])
    has = torch.stack([level.owners.bincount(minlength=count) > 0 for level in levels]).all(0)
    if has.sum() < 2:
        return logits[0].new_zeros(())
    distributions = []
    for logit, level in zip(logits, levels, strict=True):
        own = F.one_hot(level.owners, count).to(logit.dtype)  # [T, N]
        means = logit @ (own / own.sum(0).clamp(min=1))
        distributions.append(F.softmax(means[has][:, has], dim=1))
    p = torch.stack(distributions)
    return (p * (p / p.mean(0)).log()).sum(dim=(0, 2)).mean()


def _carries(level: Occurrences, images: int) -> Tensor:
    """Whether each image has a string equal to each [N, T]."""
    table = torch.zeros(images, int(level.names.max()) + 1, dtype=torch.bool)
    table[level.owners, level.names] = True
    return table[:, level.names]
