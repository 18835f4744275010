"""A loss or gradient that is no number ends a run, with the step and its batch, and the last good checkpoint stays.

Steps do not wait for the device to be asked: each notes on the device whether it was the first one, and the note is read where the
loop reads values anyway, before it logs and before it saves.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mgll.files import write_text
from mgll.training.distributed import gather_rows
from mgll.weights.finite import names_not_finite

LISTED = "not_finite.txt"


class NotFiniteError(ValueError):
    """A loss, gradient or weight is NaN or infinite; the message says since which step and what to do."""


def no_step(device: torch.device) -> Tensor:
    """The note of a loop in which all was finite so far: a scalar on `device`, -1."""
    return torch.full((), -1, dtype=torch.int64, device=device)


def note_step(first: Tensor, step: int, *values: Tensor | float | None) -> Tensor:
    """The note after a step: its number if it is the first in which one of `values` is not finite. Reads no value.

    Args:
        first: the note before it.
        step: the number of the step, from 0 on.
        values: loss and norm of the gradient; None, where a launcher does not tell the norm, is passed over.
    """
    told = [torch.as_tensor(value, device=first.device).detach() for value in values if value is not None]
    finite = torch.stack([value.isfinite().all() for value in told]).all()
    return torch.where((first < 0) & ~finite, step, first)


def stop_if_not_finite(first: Tensor, out: Path, batch: Callable[[int], Sequence[str]], write: bool) -> None:
    """Read the note. Collective: all processes must call it.

    Args:
        first: the note.
        out: folder of the run, where `not_finite.txt` lists the batch of that step.
        batch: gives what a step was trained on, a line each.
        write: whether this process writes the list.

    Raises:
        NotFiniteError: if there was such a step.
    """
    noted = gather_rows(np.array([int(first)]))
    if (noted < 0).all():
        return
    step = int(noted[noted >= 0].min())
    lines = batch(step)
    if write:
        write_text(out / LISTED, "".join(f"{line}\n" for line in lines))
    gather_rows(noted)  # a launcher ends all processes as soon as one has ended: the list must be there
    raise NotFiniteError(
        f"the loss or the gradient of step {step + 1} is NaN or infinite; {out / LISTED} lists its {len(lines)} images, the first:"
        f" {', '.join(lines[:3])}. The newest checkpoint is from before. Look at the images, lower the learning rate, or train"
        " in another precision"
    )


def refuse_not_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        NotFiniteError: naming the first of them and how many there are.
    """
    if bad := names_not_finite(tensors):
        raise NotFiniteError(
            f"{len(bad)} tensors of {what} hold NaN or infinity, the first: {bad[0]}; nothing was written"
        )
