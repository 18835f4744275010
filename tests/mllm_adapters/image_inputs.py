"""Image inputs of a model as fine-tuning makes them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mgll.images.preprocessing import open_image
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.finetuning.images import Images, Preparation
from mllm_adapters.finetuning.texts import Example, Texts
from mllm_adapters.settings import FinetuneSettings


class ImageInputs:
    """Inputs by path, of pixels or, with `kept`, of features that stand in their place until `close`."""

    def __init__(self, loaded: LoadedHost, paths: Sequence[Path], kept: bool = False) -> None:
        self.preparation = Preparation(loaded, Texts(loaded))
        settings = FinetuneSettings(image_cache_gib=float(kept))
        example = self.preparation.pixels(open_image(paths[0]))
        self.images = Images(loaded, torch.device("cpu"), example, len(paths), settings)
        self.features = self.images.store is not None
        self.close = self.images.close

    def batch(self, paths: Sequence[Path]) -> dict[str, Tensor]:
        opened = [open_image(path) for path in paths]
        pixels = [self.preparation.pixels(image) for image in opened]
        return self.images.batch([(str(p), x, i.size) for p, x, i in zip(paths, pixels, opened, strict=True)])


def text_inputs(loaded: LoadedHost, examples: Sequence[Example]) -> dict[str, Tensor]:
    """Text inputs of examples with what is learnt at their ends."""
    return Texts(loaded).batch(examples, [open_image(example.image).size for example in examples]).inputs
