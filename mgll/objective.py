"""The MGLL objective (Eq. 1 to 7) on the unique texts of a batch; CLIP, SigLIP and SupCon are settings of the same class.

Every text of the batch is encoded once. How often it occurs enters as weights, which gives the same numbers as the sums over all
occurrences (`mgll.naive_objective` has those) at a fraction of the work and memory: nothing of the size N x N is held. No value
of a tensor is read, so a GPU is never waited for: images that do not take part have weight 0 instead of being picked out.

Symbols: N images, U unique texts of a level, D feature width; the incidence A [N, U] counts how often image i carries text u.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mgll.settings import OBJECTIVES, ObjectiveSettings

MAX_LOGIT_SCALE = 100.0  # CLIP's ceiling for a learned scale
LOW = -1e6  # so low a logit that its exp is exactly 0, yet finite, so that no gradient turns into NaN
BLOCK = 2**19  # largest number of elements of a matrix of images by images that is held at once


@dataclass(frozen=True)
class Level:
    """One granularity of a batch.

    Attributes:
        texts: features of the unique texts [U, D], L2-normalised.
        incidence: [N, U], how often each image carries each text; a row of zeros is an image without this level.
    """

    texts: Tensor
    incidence: Tensor


@dataclass(frozen=True)
class ImageGroups:
    """Images in K groups: the images of a group have the same texts at every level; images that lack a level are one group.

    Attributes:
        group: number of the group of each image [N].
        counts: for each level g, how often an image of each group carries each text [K, U_g].
    """

    group: Tensor
    counts: Sequence[Tensor]


class Objective(nn.Module):
    """The weighted sum of the terms, with the temperature and the point-wise bias as parameters where they are learned."""

    def __init__(self, settings: ObjectiveSettings | str = "mgll") -> None:
        super().__init__()
        self.settings = OBJECTIVES[settings] if isinstance(settings, str) else settings
        # Each [1], since DeepSpeed sends no tensor without a dimension.
        log_scale, bias = torch.tensor([[-math.log(self.settings.temperature)], [self.settings.pointwise_bias]])
        self.log_scale = nn.Parameter(log_scale.clone(), requires_grad=self.settings.learn_temperature)
        # A bias that no term takes would have no gradient, for which processes of a distributed run wait.
        learn_bias = self.settings.learn_bias and self.settings.pointwise != 0
        self.bias = nn.Parameter(bias.clone(), requires_grad=learn_bias)

    def logit_scale(self) -> Tensor:
        """1 / tau, at most 100 [1]."""
        return self.log_scale.exp().clamp(max=MAX_LOGIT_SCALE)

    def forward(
        self, images: Tensor, levels: Mapping[str, Level], groups: ImageGroups | None = None
    ) -> dict[str, Tensor]:
        """All terms of a batch and their weighted sum.

        Args:
            images: features [N, D], L2-normalised.
            levels: granularity -> its texts. If the setting `levels` is `pooled`, they are taken as one level; captions must be
                joined before.
            groups: groups of the images, from `group_images`; they are computed here if None.

        Returns:
            Scalars `sclip`, `pointwise`, `smooth_kl`, `supcon` (those with a weight) and `loss`.
        """
        settings = self.settings
        batch = [pool_levels(levels)] if settings.levels == "pooled" else list(levels.values())
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
            terms["smooth_kl"] = smooth_kl(logits, incidences, groups)
        if settings.supcon:
            terms["supcon"] = _mean(supcon(images, self.logit_scale(), incidence) for incidence in incidences)
        # every feature takes part, if only with 0: processes of a distributed run wait for each gradient
        nothing = sum((level.texts.sum() for level in batch), start=images.sum()) * 0
        loss = sum((getattr(settings, name) * term for name, term in terms.items()), start=nothing)
        return {"loss": loss, **terms}


def pool_levels(levels: Mapping[str, Level]) -> Level:
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
    over_texts = torch.logsumexp(logits + _log_count(per_text), dim=1)
    over_images = torch.logsumexp(logits + _log_count(per_image).unsqueeze(1), dim=0)
    if soft_targets:
        to_texts, to_images = 1 / per_image.clamp(min=1), 1 / (incidence > 0).to(incidence.dtype).sum(0).clamp(min=1)
    else:
        to_texts, to_images = torch.ones_like(per_image), torch.ones_like(per_text)
    # the weight of a pair is its count times one factor of its row (to texts) and one of its column (to images)
    pairs = (incidence * (to_texts.unsqueeze(1) + to_images) * logits).sum()
    total = pairs - over_texts @ (to_texts * per_image) - over_images @ (to_images * per_text)
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
    has_level = (incidence.sum(1) > 0).to(logits.dtype)
    if_negative = has_level @ F.softplus(logits) @ occurrences
    total = (if_negative - (logits * (incidence > 0) * occurrences).sum()) / has_level.sum().clamp(min=1)
    return total / occurrences.sum().clamp(min=1) if reduction == "mean" else total


def group_images(incidences: Sequence[Tensor]) -> ImageGroups:
    """Group images by their texts, given the incidence [N, U_g] of each level g.

    On a GPU this waits for the GPU. Therefore training does it on the CPU, where it makes the incidences.
    """
    complete = torch.stack([incidence.sum(1) > 0 for incidence in incidences]).all(0)
    texts = torch.cat(list(incidences), dim=1) * complete.unsqueeze(1)
    columns, group = torch.unique(texts, dim=0, return_inverse=True)
    return ImageGroups(group, columns.split([incidence.shape[1] for incidence in incidences], dim=1))


def smooth_kl(logits: Sequence[Tensor], incidences: Sequence[Tensor], groups: ImageGroups | None = None) -> Tensor:
    """Smooth KL divergence between the levels' image distributions and their mean (Eq. 5 and 6).

    Rows and columns are the images that have every level. Images with the same texts at every level are one column with the log
    of their number added, so K <= N columns are computed.

    Args:
        logits: s * sim [N, U_g] of each level g.
        incidences: [N, U_g] of each level.
        groups: groups of the images, from `group_images`, if known; they may count texts that an image has lost since.

    Returns:
        Scalar: sum over levels, mean over rows; 0 where fewer than two images have every level.
    """
    if len(logits) == 1:
        return logits[0].sum() * 0  # a distribution against itself
    groups = groups or group_images(incidences)
    complete = torch.stack([incidence.sum(1) > 0 for incidence in incidences]).all(0).to(logits[0].dtype)
    sizes = complete.new_zeros(len(groups.counts[0])).index_add(0, groups.group, complete)
    log_sizes = _log_count(sizes)
    counts = [own.to(logits[0].dtype) for own in groups.counts]
    means = [own / own.sum(1, keepdim=True).clamp(min=1) for own in counts]

    def divergence(takes_part: Tensor, *rows: Tensor) -> Tensor:
        """The divergence summed over rows and levels, for the levels' logits [n, U_g]."""
        log_p = [F.log_softmax(logit @ mean.T + log_sizes, dim=1) for logit, mean in zip(rows, means, strict=True)]
        levels = torch.stack(log_p)  # [G, n, K]
        log_mean = torch.logsumexp(levels, dim=0) - math.log(len(log_p))
        return (levels.exp() * (levels - log_mean)).sum(dim=(0, 2)) @ takes_part

    return _sum_over_rows(divergence, [complete, *logits], len(sizes)) / complete.sum().clamp(min=1)


def supcon(images: Tensor, scale: Tensor, incidence: Tensor) -> Tensor:
    """Supervised contrastive loss between the images that have the level: L_out of Khosla et al. (2020, Eq. 2), one view per image.

    Positives of an image are the other images that share one of its texts; the mean over them is outside the logarithm.

    Args:
        images: features [N, D], L2-normalised.
        scale: 1 / tau.
        incidence: [N, U].

    Returns:
        Scalar: the mean over images that have a positive; 0 where none has.
    """
    has_level = incidence.sum(1) > 0
    numbers = torch.arange(len(images), device=images.device)
    shared = ((incidence > 0).sum(0) > 1).to(incidence.dtype)
    anchors = (incidence @ shared > 0).sum()

    def loss(own: Tensor, texts: Tensor, row: Tensor) -> Tensor:
        """The loss summed over some rows."""
        others = (row.unsqueeze(1) != numbers) & has_level
        logits = (scale * own @ images.T).masked_fill(~others, LOW)
        positive = (texts @ incidence.T > 0) & others
        log_p = (logits - torch.logsumexp(logits, dim=1, keepdim=True)).masked_fill(~positive, 0)
        return -(log_p.sum(1) / positive.sum(1).clamp(min=1)).sum()

    return _sum_over_rows(loss, [images, incidence, numbers], len(images)) / anchors.clamp(min=1)


def _sum_over_rows(of_rows: Callable[..., Tensor], rows: Sequence[Tensor], columns: int) -> Tensor:
    """The sum of a function over blocks of rows that see `columns`; what its gradient needs is computed again, not kept."""
    size = max(1, BLOCK // (columns * len(rows)))
    if size >= len(rows[0]):
        return of_rows(*rows)
    blocks = zip(*(tensor.split(size) for tensor in rows), strict=True)
    return torch.stack([torch.as_tensor(checkpoint(of_rows, *own, use_reentrant=False)) for own in blocks]).sum()


def _log_count(counts: Tensor) -> Tensor:
    return torch.where(counts > 0, counts.clamp(min=1).log(), LOW)


def _mean(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).mean()
