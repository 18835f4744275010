"""The MGLL objective (Eq. 1 to 7) on the unique texts of a batch, with CLIP and SigLIP as settings of the same class.

Every text of the batch is encoded once. How often it occurs enters as weights, which gives the same numbers as the sums over all
occurrences (`mgll.naive_objective` has those) at a fraction of the work.

Symbols: N images, U unique texts of a level, D feature width; the incidence A [N, U] counts how often image i carries text u.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgll.settings import OBJECTIVES, ObjectiveSettings

MAX_LOGIT_SCALE = 100.0  # CLIP's ceiling for a learned scale


@dataclass(frozen=True)
class Level:
    """One granularity of a batch.

    Attributes:
        texts: features of the unique texts [U, D], L2-normalised.
        incidence: [N, U], how often each image carries each text; a row of zeros is an image without this level.
    """

    texts: Tensor
    incidence: Tensor


class Objective(nn.Module):
    """The weighted sum of the terms, with the temperature and the point-wise bias as parameters where they are learned."""

    def __init__(self, settings: ObjectiveSettings | str = "mgll") -> None:
        super().__init__()
        self.settings = OBJECTIVES[settings] if isinstance(settings, str) else settings
        log_scale = torch.tensor(-math.log(self.settings.temperature))
        self.log_scale = nn.Parameter(log_scale, requires_grad=self.settings.learn_temperature)
        self.bias = nn.Parameter(torch.tensor(self.settings.pointwise_bias), requires_grad=self.settings.learn_bias)

    def logit_scale(self) -> Tensor:
        """1 / tau, at most 100."""
        return self.log_scale.exp().clamp(max=MAX_LOGIT_SCALE)

    def forward(self, images: Tensor, levels: Mapping[str, Level]) -> dict[str, Tensor]:
        """All terms of a batch and their weighted sum.

        Args:
            images: features [N, D], L2-normalised.
            levels: granularity -> its texts. With `pooled` the levels are taken as one; joining captions is the data's work.

        Returns:
            Scalars `sclip`, `pointwise`, `smooth_kl` (those with a weight) and `loss`.
        """
        settings = self.settings
        batch = [pooled(levels)] if settings.levels == "pooled" else list(levels.values())
        logits = [self.logit_scale() * images @ level.texts.T for level in batch]
        incidences = [level.incidence for level in batch]
        terms: dict[str, Tensor] = {}
        if settings.sclip:
            terms["sclip"] = _mean(
                soft_clip(s, a, settings.soft_targets) for s, a in zip(logits, incidences, strict=True)
            )
        if settings.pointwise:
            terms["pointwise"] = _mean(
                pointwise(s + self.bias, a, settings.pointwise_reduction, settings.pointwise_texts)
                for s, a in zip(logits, incidences, strict=True)
            )
        if settings.smooth_kl:
            terms["smooth_kl"] = smooth_kl(logits, incidences)
        loss = sum((getattr(settings, name) * term for name, term in terms.items()), start=images.sum() * 0)
        return {"loss": loss, **terms}


def pooled(levels: Mapping[str, Level]) -> Level:
    """All levels as one (Table 4's single granularity)."""
    return Level(
        torch.cat([level.texts for level in levels.values()]),
        torch.cat([level.incidence for level in levels.values()], dim=1),
    )


def soft_clip(logits: Tensor, incidence: Tensor, soft_targets: bool = True) -> Tensor:
    """Soft CLIP loss of one level (Eq. 1 to 3), over the images that have it.

    Args:
        logits: s * sim [N, U].
        incidence: [N, U].
        soft_targets: weights of Eq. 3, else 1 for every pair (CLIP).

    Returns:
        Scalar; 0 where no image has the level.
    """
    per_image, per_text = incidence.sum(1), incidence.sum(0)
    to_texts = logits - torch.logsumexp(logits + _log_count(per_text), dim=1, keepdim=True)
    to_images = logits - torch.logsumexp(logits + _log_count(per_image).unsqueeze(1), dim=0, keepdim=True)
    pairs_to_texts, pairs_to_images = incidence, incidence
    if soft_targets:
        pairs_to_texts = incidence / per_image.clamp(min=1).unsqueeze(1)
        pairs_to_images = incidence / (incidence > 0).sum(0).clamp(min=1)
    positive = incidence > 0
    total = (pairs_to_texts * to_texts)[positive].sum() + (pairs_to_images * to_images)[positive].sum()
    return -total / (2 * incidence.sum()).clamp(min=1)


def pointwise(
    logits: Tensor,
    incidence: Tensor,
    reduction: Literal["sum", "mean"] = "sum",
    texts: Literal["occurrence", "unique"] = "occurrence",
) -> Tensor:
    """Point-wise loss of one level (Eq. 4; `mean`: A.2): binary cross-entropy of every image with every occurrence of a text.

    Args:
        logits: s * sim + bias [N, U].
        incidence: [N, U].
        reduction: `sum` or `mean` over the texts; always the mean over the images that have the level.
        texts: count a text as often as it occurs (Eq. 4), or once.

    Returns:
        Scalar; 0 where no image has the level.
    """
    occurrences = incidence.sum(0)
    if texts == "unique":
        occurrences = (occurrences > 0).to(incidence.dtype)
    entropy = F.softplus(logits) - logits * (incidence > 0)
    has_level = incidence.sum(1) > 0
    total = (entropy * occurrences)[has_level].sum() / has_level.sum().clamp(min=1)
    return total / occurrences.sum().clamp(min=1) if reduction == "mean" else total


def smooth_kl(logits: list[Tensor], incidences: list[Tensor]) -> Tensor:
    """Smooth KL divergence between the levels' image distributions and their mean (Eq. 5 and 6).

    Rows and columns are the n images that have every level. Images with the same texts at every level are one column with the log
    of their number added, so K <= n columns are computed.

    Args:
        logits: s * sim [N, U_g] of each level g.
        incidences: [N, U_g] of each level.

    Returns:
        Scalar: sum over levels, mean over rows; 0 where fewer than two images have every level.
    """
    complete = torch.stack([incidence.sum(1) > 0 for incidence in incidences]).all(0)
    if complete.sum() < 2:
        return sum((logit.sum() * 0 for logit in logits), start=logits[0].new_zeros(()))
    texts_of_image = torch.cat([incidence[complete] for incidence in incidences], dim=1)
    columns, counts = torch.unique(texts_of_image, dim=0, return_counts=True)
    log_counts = counts.to(logits[0].dtype).log()
    log_p = []
    for logit, incidence in zip(logits, columns.split([i.shape[1] for i in incidences], dim=1), strict=True):
        mean_of_texts = incidence / incidence.sum(1, keepdim=True)
        log_p.append(F.log_softmax(logit[complete] @ mean_of_texts.T.to(logit.dtype) + log_counts, dim=1))
    levels = torch.stack(log_p)  # [G, n, K]
    log_mean = torch.logsumexp(levels, dim=0) - math.log(len(log_p))
    return (levels.exp() * (levels - log_mean)).sum(dim=(0, 2)).mean()


def _log_count(counts: Tensor) -> Tensor:
    """Log of counts; 0 becomes so low that exp is exactly 0, yet finite, so that no gradient turns into NaN."""
    return torch.where(counts > 0, counts.clamp(min=1).log(), -1e6)


def _mean(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).mean()
