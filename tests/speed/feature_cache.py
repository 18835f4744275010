"""A fine-tuning step on features from the disk, and on the tower itself, against the step on ready features, which is the limit.

    python tests/speed/feature_cache.py [--images 32] [--batch 8] [--rounds 3]

The demo's LLaVA (ViT-Ti/16 at 96 px, a small decoder) with LoRA. All three steps are the same forward and backward pass of the
language model; they differ in where image inputs come from. Rounds alternate, and medians of processor time are compared.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from PIL import Image
from rows import Row, say, shown
from torch import Tensor

from mgll.images.preprocessing import open_image
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.demo.host import demo_checkpoint
from mllm_adapters.finetuning.augmentation import PLAIN
from mllm_adapters.finetuning.forward import forward
from mllm_adapters.finetuning.images import Images, Preparation
from mllm_adapters.finetuning.loader import Examples
from mllm_adapters.finetuning.texts import Texts
from mllm_adapters.loading.load import load
from mllm_adapters.loading.lora import add_lora
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

CPU = torch.device("cpu")
QUESTION = "What is the most reasonable diagnosis?\nA. drusen\nB. normal\nC. glaucoma\nD. cataract"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    say(rows(options.images, options.batch, options.rounds))


def rows(images: int = 32, batch: int = 8, rounds: int = 3) -> Iterator[Row]:
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(images):
            pixels = random.integers(0, 256, (500, 500, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.jpg")
        base = demo_checkpoint(folder)
        questions = [TrainingQuestion(folder / f"{i}.jpg", QUESTION, "ABCD"[i % 4]) for i in range(images)]
        cached = steps(base, questions, batch, FinetuneSettings(feature_cache=str(folder / "cache")))
        for step in (*cached[0], *cached[0]):  # fills the cache, and warms up
            step()
        ready = cached[1]()
        tower = steps(base, questions, batch, FinetuneSettings(image_cache_gib=0))[0]
        seconds: dict[str, list[float]] = {"ready": [], "cache": [], "tower": []}
        for _ in range(rounds):
            for kind, kinds in zip(seconds, (ready, cached[0], tower), strict=True):
                started = time.process_time()
                for step in kinds:
                    step()
                seconds[kind].append((time.process_time() - started) / len(kinds))
    ratios = {kind: float(np.median(np.divide(found, seconds["ready"]))) for kind, found in seconds.items()}
    limit = f"the limit: the step on ready features, {np.median(seconds['ready']):.2f} s of a core"
    yield shown("fine-tuning step from the feature cache", limit, ratios["cache"])
    yield shown("fine-tuning step through the tower", limit, ratios["tower"])


def steps(
    base: Path, questions: list[TrainingQuestion], batch: int, settings: FinetuneSettings
) -> tuple[list[Callable[[], Tensor]], Callable[[], list[Callable[[], Tensor]]]]:
    """One step for each batch, reading its images or features; and a function that gives the same steps with all inputs ready."""
    loaded: LoadedHost = load(base)
    model = add_lora(loaded.model, loaded.host, settings)
    preparation = Preparation(loaded, Texts(loaded))
    hashes = {question.image: question.image.stem for question in questions}
    examples = Examples(questions, hashes, preparation, settings)
    images = Images(loaded, CPU, preparation.pixels(open_image(questions[0].image)), len(questions), settings)
    batches = [range(start, start + batch) for start in range(0, len(questions) - batch + 1, batch)]

    def prepared(indices: range) -> tuple[object, dict[str, Tensor]]:
        found = examples[[examples.view(index, PLAIN, images.size) for index in indices]]
        return found, images.batch(found.images, CPU)

    def step(indices: range) -> Tensor:
        found = examples[[examples.view(index, PLAIN, images.size) for index in indices]]
        loss = forward(model, loaded, found, images, CPU).losses.mean()
        loss.backward()
        return loss

    def ready() -> list[Callable[[], Tensor]]:
        made = [prepared(indices) for indices in batches]

        class Ready(Images):
            def __init__(self, inputs: dict[str, Tensor]) -> None:
                self._inputs = inputs

            def batch(self, rows: object, device: object = None) -> dict[str, Tensor]:
                return self._inputs

        def known(found: object, inputs: dict[str, Tensor]) -> Tensor:
            loss = forward(model, loaded, found, Ready(inputs), CPU).losses.mean()
            loss.backward()
            return loss

        return [lambda found=found, inputs=inputs: known(found, inputs) for found, inputs in made]

    return [lambda indices=indices: step(indices) for indices in batches], ready


if __name__ == "__main__":
    main()
