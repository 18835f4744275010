"""The objective of `mgll.objective` written over occurrences: every string has a row of its own, nothing is shared.

Slow and plain on purpose. The fast form must equal it in value and gradient; tests and timings compare the two.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Texts = Sequence[Sequence[Tensor]]  # for each image, the features [D] of its texts at one level


def naive_soft_clip(images: Tensor, texts: Texts, names: Sequence[Sequence[str]], scale: Tensor) -> Tensor:
    """Soft CLIP loss of one level over pairs (Eq. 1 to 3).

    Args:
        images: [N, D].
        texts: features by image and occurrence.
        names: the strings of the same shape; equal strings are the same text.
        scale: 1 / tau.
    """
    pairs = [(i, k) for i, own in enumerate(names) for k in range(len(own))]
    stacked = torch.stack([texts[i][k] for i, k in pairs])
    total = images.new_zeros(())
    for i, k in pairs:
        to_texts = F.log_softmax(scale * stacked @ images[i], dim=0)[pairs.index((i, k))]
        occurrences = scale * torch.stack([images[n] for n, _ in pairs]) @ texts[i][k]
        to_images = scale * images[i] @ texts[i][k] - torch.logsumexp(occurrences, dim=0)
        carriers = sum(names[i][k] in own for own in names)
        total = total - to_texts / len(names[i]) - to_images / carriers
    return total / (2 * len(pairs))


def naive_pointwise(
    images: Tensor, texts: Texts, names: Sequence[Sequence[str]], scale: Tensor, bias: Tensor
) -> Tensor:
    """Point-wise loss of one level over every image and occurrence (Eq. 4), averaged over the images that have the level."""
    present = [i for i, own in enumerate(names) if own]
    total = images.new_zeros(())
    for i in present:
        for n in present:
            for k, name in enumerate(names[n]):
                x = scale * images[i] @ texts[n][k] + bias
                total = total + F.binary_cross_entropy_with_logits(x, x.new_tensor(float(name in names[i])))
    return total / len(present)


def naive_smooth_kl(images: Tensor, levels: Sequence[Texts], scale: Tensor) -> Tensor:
    """Smooth KL over the images that have every level (Eq. 5 and 6), one column an image."""
    rows = [i for i in range(len(images)) if all(texts[i] for texts in levels)]
    if len(rows) < 2:
        return images.new_zeros(())
    total = images.new_zeros(())
    for i in rows:
        distributions = []
        for texts in levels:
            logits = torch.stack([(scale * torch.stack(list(texts[n])) @ images[i]).mean() for n in rows])
            distributions.append(F.softmax(logits, dim=0))
        mean = torch.stack(distributions).mean(0)
        total = total + sum((p * (p / mean).log()).sum() for p in distributions)
    return total / len(rows)
