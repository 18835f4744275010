"""A fine-tuning step on features from the disk, and on the tower itself, against the step on ready features, which is the limit.

    python tests/speed/feature_cache.py [--images 4] [--batch 4] [--rounds 5]

A LLaVA of 144 image tokens with random weights: a tower of 14 million, a language model of 19 million parameters with LoRA. All
three steps are the same forward and backward pass of the language model; they differ in where image inputs come from. Rounds
alternate; compared are medians of processor time, which other work on the machine changes little. What the step through the tower
should take is the ratio of the operations that PyTorch counts in both, which follow from the numbers of tokens. Goals: at most 1.05
times the limit from the disk, and within 10 % of what it should take through the tower.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

import numpy as np
import torch
from letter_scoring import save_llava
from PIL import Image
from rows import Row, at_most, say, within
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mgll.images.preprocessing import open_image
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.finetuning.augmentation import PLAIN
from mllm_adapters.finetuning.forward import forward
from mllm_adapters.finetuning.images import Images, Preparation
from mllm_adapters.finetuning.loader import Examples, Prepared
from mllm_adapters.finetuning.texts import Texts
from mllm_adapters.loading.load import load
from mllm_adapters.loading.lora import add_lora
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

CPU = torch.device("cpu")
QUESTION = "What is the most reasonable diagnosis?\nA. drusen\nB. normal\nC. glaucoma\nD. cataract"
SIDE = 168
TOWER = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 6}
DECODER = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 6, "num_attention_heads": 8}
#: Goals: largest share of the limit from the disk, and distance from what should be taken through the tower.
FROM_DISK, APART = 1.05, 0.10
Step = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    say(rows(options.images, options.batch, options.rounds))


def rows(images: int = 4, batch: int = 4, rounds: int = 5) -> Iterator[Row]:
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(images):
            pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.jpg")
        base = save_llava(folder / "llava", TOWER, DECODER, SIDE)
        questions = [TrainingQuestion(folder / f"{i}.jpg", QUESTION, "ABCD"[i % 4]) for i in range(images)]
        cached = Run(base, questions, batch, FinetuneSettings(feature_cache=str(folder / "cache")))
        for step in cached.steps():  # fills the cache
            step()
        tower = Run(base, questions, batch, FinetuneSettings(image_cache_gib=0))
        kinds = {"ready features": cached.ready(), "feature cache": cached.steps(), "the tower": tower.ready()}
        operations = {kind: _operations(steps[0]) for kind, steps in kinds.items()}  # and warms up
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind, steps in kinds.items():
                started = time.process_time()
                for step in steps:
                    step()
                seconds[kind].append((time.process_time() - started) / len(steps))
    limit = seconds["ready features"]
    ratios = {kind: float(np.median(np.divide(found, limit))) for kind, found in seconds.items()}
    expected = operations["the tower"] / operations["ready features"]
    apart = ratios["the tower"] / expected
    seconds_of = {kind: f"{np.median(found):.3f} s of a core" for kind, found in seconds.items()}
    ready = f"the limit: the step on ready features, {seconds_of['ready features']}"
    yield at_most("fine-tuning step from the feature cache", ready, ratios["feature cache"], FROM_DISK)
    note = f"{ratios['the tower']:.2f} x the step on ready features"
    by = f"what its operations make of that step, {expected:.2f} x"
    yield within("fine-tuning step through the tower", by, apart, APART, note)


def _operations(step: Step) -> int:
    with FlopCounterMode(display=False) as counted:
        step()
    return int(counted.get_total_flops())


class Ready(Images):
    """Image inputs of one batch that are there already."""

    def __init__(self, inputs: Mapping[str, Tensor]) -> None:
        self._inputs = dict(inputs)

    def batch(self, rows: object, device: object = None) -> dict[str, Tensor]:
        """The inputs, whatever is asked for."""
        return self._inputs


class Run:
    """A host with LoRA, and its questions in batches."""

    def __init__(self, base: Path, questions: list[TrainingQuestion], batch: int, settings: FinetuneSettings) -> None:
        torch.manual_seed(0)
        self.loaded: LoadedHost = load(base)
        self.model = add_lora(self.loaded.model, self.loaded.host, settings)
        preparation = Preparation(self.loaded, Texts(self.loaded))
        hashes = {question.image: question.image.stem for question in questions}
        self.examples = Examples(questions, hashes, preparation, settings)
        example = preparation.pixels(open_image(questions[0].image))
        self.images = Images(self.loaded, CPU, example, len(questions), settings)
        self.batches = [range(start, start + batch) for start in range(0, len(questions) - batch + 1, batch)]

    def steps(self) -> list[Step]:
        """A step for each batch that reads its images or features."""
        return [lambda rows=rows: self._step(self._read(rows), self.images) for rows in self.batches]  # type: ignore[misc]

    def ready(self) -> list[Step]:
        """The same steps with all inputs in memory: features where they are kept, else pixels."""
        read = [self._read(rows) for rows in self.batches]
        inputs = [Ready(self.images.batch(found.images, CPU)) for found in read]
        return [lambda f=f, i=i: self._step(f, i) for f, i in zip(read, inputs, strict=True)]  # type: ignore[misc]

    def _read(self, rows: range) -> Prepared:
        return self.examples[[self.examples.view(index, PLAIN, self.images.size) for index in rows]]

    def _step(self, batch: Prepared, images: Images) -> None:
        forward(self.model, self.loaded, batch, images, CPU).losses.mean().backward()


if __name__ == "__main__":
    main()
