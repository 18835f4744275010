"""Batches of pretraining, made ahead of the steps by worker processes that live as long as the run.

What a batch holds is a pure function of the settings and the number of its step. Therefore neither the number of workers nor a kill
and a resumption changes it.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mgll.images.preprocessing import ImageError, Preprocessing
from mgll.settings import PretrainSettings
from mgll.training.data import TrainingImages, epoch_order_by_shards, shards_of
from mgll.training.distributed import to_device
from mgll.training.looks import apply_looks
from mgll.training.steps import global_batches, process_share, steps_per_epoch
from mgll.training.texts import PickedTexts, TextTable
from mgll.training.workers import affordable_prefetch, worker_options


@dataclass(frozen=True)
class Step:
    """What one step sees.

    Attributes:
        number: number of the step in the run.
        epoch: number of its epoch.
        records: numbers of all records of the global batch.
        own: those of them whose images this process loads.
    """

    number: int
    epoch: int
    records: list[int]
    own: list[int]


@dataclass(frozen=True)
class Batch:
    """This process's share of a global batch, on the CPU.

    Attributes:
        pixels: uint8 [n, 3, side, side]; zeros where an image could not be read.
        readable: whether each image could be read, bool [n].
        texts: the texts of the global batch.
        looks: where the device augments, what is to be done to each image, float32 [n, 8].
    """

    pixels: Tensor
    readable: np.ndarray
    texts: PickedTexts
    looks: np.ndarray | None

    def pin_memory(self) -> "Batch":
        """The batch with its pixels where a GPU can fetch them; `DataLoader` calls this in a thread of its own."""
        return replace(self, pixels=self.pixels.pin_memory())


class TrainingBatches(Dataset[Batch]):
    """Batches by their steps.

    Args:
        images: the images.
        texts: the texts.
        settings: the run's, for what draws single texts.
    """

    def __init__(self, images: TrainingImages, texts: TextTable, settings: PretrainSettings) -> None:
        self.images, self.texts, self._settings = images, texts, settings

    def __getitem__(self, step: Step) -> Batch:
        side = self.images.side
        pixels = torch.zeros(len(step.own), 3, side, side, dtype=torch.uint8)
        readable = np.ones(len(step.own), dtype=bool)
        looks = np.ones((len(step.own), 8), dtype=np.float32) if self.images.on_device else None
        for row, index in enumerate(step.own):
            try:
                pixels[row], look = self.images[step.epoch, index]
            except ImageError:
                readable[row] = False
            else:
                if looks is not None and look is not None:
                    looks[row] = look.row
        return Batch(pixels, readable, self.texts.pick(step.records, _draw(self._settings, step.number)), looks)

    def bytes_each(self, images: int) -> int:
        """Bytes of the pixels of a batch of so many images."""
        return images * 3 * self.images.side**2


def batches_from(
    batches: TrainingBatches, settings: PretrainSettings, done: int, process: int, processes: int
) -> Iterator[tuple[Step, Batch]]:
    """This process's share of every global batch from step `done` on, prepared by `settings.workers` processes, or here.

    Raises:
        ValueError: if the workers' batches do not fit into shared memory.
    """
    steps = _steps(settings, batches.images, done, process, processes)
    if not settings.workers:
        yield from ((step, batches[step]) for step in steps)
        return
    batch_bytes = batches.bytes_each(settings.batch_size // processes)
    prefetch = affordable_prefetch(batch_bytes, settings.workers, settings.prefetch)
    if prefetch < settings.prefetch and process == 0:
        print(f"each worker prepares {prefetch} batches ahead, not {settings.prefetch}: there is no more shared memory")
    waiting: deque[Step] = deque()

    def noted() -> Iterator[Step]:  # read ahead of the batches
        for step in steps:
            waiting.append(step)
            yield step

    loader: DataLoader[Batch] = DataLoader(
        batches,
        batch_size=None,
        sampler=noted(),
        pin_memory=torch.cuda.is_available(),
        **worker_options(settings.workers, prefetch),
    )
    for batch in loader:
        yield waiting.popleft(), batch


def pixels_on(device: torch.device, preprocessing: Preprocessing) -> Callable[[Batch], Tensor]:
    """A function from a batch to its pixels on a device as a tower sees them, float32 [n, 3, size, size].

    Normalisation is that of `mgll.images.preprocessing.normalise`. An image that could not be read gives zeros, so that the batch
    keeps its shape and the step can leave it out. The caller does not wait for a GPU.
    """
    mean, std = (to_device(torch.tensor(own).view(3, 1, 1), device) for own in (preprocessing.mean, preprocessing.std))

    def on_device(batch: Batch) -> Tensor:
        pixels = to_device(batch.pixels, device)
        if batch.looks is not None:
            pixels = apply_looks(pixels, preprocessing.size, to_device(torch.from_numpy(batch.looks), device))
        lost = to_device(torch.from_numpy(~batch.readable), device)
        return pixels.float().div_(255).sub_(mean).div_(std).masked_fill_(lost.view(-1, 1, 1, 1), 0)

    return on_device


def _steps(
    settings: PretrainSettings, images: TrainingImages, done: int, process: int, processes: int
) -> Iterator[Step]:
    per_epoch = steps_per_epoch(len(images), settings.batch_size)
    shards = _shards(settings, images)
    for epoch in range(done // per_epoch, settings.epochs):
        first = done % per_epoch if epoch == done // per_epoch else 0
        for place, records in enumerate(_epoch_batches(settings, len(images), shards, epoch, first), first):
            yield Step(epoch * per_epoch + place, epoch, records, process_share(records, process, processes))


def records_of_step(settings: PretrainSettings, images: TrainingImages, step: int) -> list[int]:
    """Records of the global batch of one step."""
    epoch, first = divmod(step, steps_per_epoch(len(images), settings.batch_size))
    return next(_epoch_batches(settings, len(images), _shards(settings, images), epoch, first))


def _shards(settings: PretrainSettings, images: TrainingImages) -> np.ndarray | None:
    """The shard of each image, where the order follows the shards."""
    return shards_of(images.records) if settings.shards_at_once else None


def _epoch_batches(
    settings: PretrainSettings, images: int, shards: np.ndarray | None, epoch: int, first: int
) -> Iterator[list[int]]:
    """Records of every global batch of an epoch from batch `first` on."""
    order = None if shards is None else epoch_order_by_shards(shards, settings.shards_at_once, settings.seed, epoch)
    return global_batches(images, settings.batch_size, settings.seed, epoch, first, order)


def _draw(settings: PretrainSettings, step: int) -> np.random.Generator | None:
    """What draws the single text of each image in a step, where the objective takes one; the same in all processes."""
    single = settings.resolved_objective.levels == "single"
    return np.random.default_rng([settings.seed, step]) if single else None
