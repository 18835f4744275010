"""Photographs that a core makes ready for fine-tuning in a second, against what one GPU eats.

    python tests/speed/fine_tuning_loader.py [--side 2000] [--images 16] [--model-side 336] [--cores 16]

JPEG files of a round fundus on black (quality 90) go through all that a loader's worker does: decoding, augmentation, the host's
own processor (LLaVA's, to the resolution of the published one), text. Processor time is counted, so that other work on the machine
changes little. What a GPU eats is reckoned as the dry run of Table 2 reckons it: a LLaVA-1.5 of 7 billion parameters, gradient
checkpointing, the assumed share of the peak.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

import numpy as np
from letter_scoring import save_llava
from PIL import Image
from rows import Row, say, shown

from mgll.training_cost import PEAKS, CostSettings
from mllm_adapters.finetuning.augmentation import PLAIN
from mllm_adapters.finetuning.images import Preparation
from mllm_adapters.finetuning.loader import Examples
from mllm_adapters.finetuning.texts import Texts
from mllm_adapters.host_cost import host_cost
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

QUESTION = "What is the most reasonable diagnosis?\nA. drusen\nB. normal\nC. glaucoma\nD. cataract"
#: Parameters and image tokens of LLaVA-1.5-7B.
LLAVA = (7.06e9, 576)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2000)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--model-side", type=int, default=336)
    parser.add_argument("--cores", type=int, default=16)
    options = parser.parse_args()
    say(rows(options.side, options.images, options.model_side, options.cores))


def rows(side: int = 2000, count: int = 16, model_side: int = 336, cores: int = 16) -> Iterator[Row]:
    """Photographs a second that the cores make ready, over what each GPU eats."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = [folder / f"{number}.jpg" for number in range(count)]
        for number, image in enumerate(images):
            photograph(side, number).save(image, quality=90)
        small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        loaded = load(save_llava(folder / "llava", small, small, model_side))
        questions = [TrainingQuestion(image, QUESTION, "A") for image in images]
        hashes = {image: image.stem for image in images}
        examples = Examples(questions, hashes, Preparation(loaded, Texts(loaded)), FinetuneSettings())

        def ready(number: int) -> None:
            examples[[examples.view(number, PLAIN, lambda _: None)]]

        ready(0)  # warms up
        seconds = []
        for number in range(count):
            started = time.process_time()
            ready(number)
            seconds.append(time.process_time() - started)
    each = 1 / float(np.median(seconds))
    settings = FinetuneSettings(batch_size=16, gradient_checkpointing=True)
    operations = host_cost(get_host("llava"), None, LLAVA, settings, 16, 0).operations / 16
    for gpu, peak in PEAKS.items():
        eaten = peak * CostSettings().utilisation / operations
        work = f"photographs of {side:,} px made ready for fine-tuning by {cores} cores"
        note = f"{each:.1f} a core and second; it eats {eaten:.1f} a second"
        yield shown(work, f"what an {gpu} eats, reckoned: LLaVA-1.5-7B", cores * each / eaten, note)


def photograph(side: int, seed: int) -> Image.Image:
    """A smooth disc with vessels and grain on black, whose file is about as large as a camera's."""
    random = np.random.default_rng(seed)
    coarse = random.normal(size=(side // 50 + 1, side // 50 + 1, 3)) * 12
    soft = np.asarray(
        Image.fromarray((128 + coarse).clip(0, 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    )
    grain = random.normal(size=(side, side, 1)) * 4
    across = np.linspace(-1, 1, side)
    inside = (across[:, None] ** 2 + across**2 < 0.95)[..., None]
    return Image.fromarray(((soft + grain) * inside * (1.2, 0.7, 0.35)).clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
