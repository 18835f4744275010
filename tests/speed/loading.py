"""From a JPEG file to a training tensor on one core: drafts and full decodes against what was before, timm's and open_clip's.

    python tests/speed/loading.py [--side 2000] [--images 4] [--rounds 7] [--size 224]

Photographs are drawn eyes with a sensor's noise, half of them square and half 4:3, as JPEG files of quality 90; then the same from
shards scaled down to 512 px. All paths end in a normalised float tensor [3, size, size] of a random crop of 70 % or more:

- before: this project's path until there were drafts, two copies of all pixels and margins in full resolution among it.
- exact, draft: `TrainingImages` as it is, with either way to decode.
- timm: `timm.data.create_transform` for training with our crop, flip and jitter, on what its `ImageDataset` opens.
- open_clip: its training transform with our crop; it neither flips nor jitters.

The process keeps to one core, time is the processor's, rounds alternate, and of each path the fastest round counts.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

import numpy as np
import timm.data
import torch
from open_clip.transform import AugmentationCfg, image_transform
from PIL import Image, ImageOps
from rows import Row, at_least, say, shown
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from mgll.images.files import opened
from mgll.images.preprocessing import Preprocessing, normalise
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.manifest.shard_writing import Scaling
from mgll.manifest.shards import pack
from mgll.synthetic.drawing import draw_eye
from mgll.training.data import TrainingImages
from mgll.training.looks import Augmentation, draw_look

CROP, FLIP, JITTER = 0.7, 0.5, 0.1
#: Photographs of the largest of the paper's sets (Table 15), and cores for the estimate of one pass over them.
ALL, CORES = 246_389, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2000)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()
    say(rows(options.side, options.images, options.rounds, options.size))


def rows(side: int = 2000, count: int = 4, rounds: int = 3, size: int = 224) -> Iterator[Row]:
    """Drafts from large photographs and from shards of 512 px, over each rival."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        manifest = photographs(Path(name), side, count)
        before = rates(manifest, size, rounds)
        yield from compared(f"images/s a core, {side:,} px JPEG to a {size} px training tensor", before)
        started = time.process_time()
        shards = pack(manifest, Path(name) / "shards", scaling=Scaling(512), processes=1)
        seconds = (time.process_time() - started) / count
        after = rates(shards, size, rounds)
        work = f"images/s a core, 512 px shards to a {size} px training tensor"
        yield from compared(work, after)
        rate = after["draft"]
        note = f"scaling down costs {seconds * 1000:.0f} ms a photograph, once"
        yield at_least(work, "eight H100 at ViT-L/14, 16 cores (estimate)", rate, 300, note, "images/s")
        for where, own in (("photographs", before["draft"]), ("shards", rate)):
            yield shown(f"one pass over {ALL:,} {where}", f"{CORES} cores, estimate", ALL / own / CORES, unit="s")


def compared(work: str, found: Mapping[str, float]) -> Iterator[Row]:
    """The draft path over what was before, and over the better rival."""
    note = ", ".join(f"{name} {rate:.0f}" for name, rate in found.items())
    large = found["exact"] < 100  # from shards there is hardly more to decode than is needed
    ratio = found["draft"] / found["before"]
    yield at_least(work, "before", ratio, 3.5, note) if large else shown(work, "before", ratio, note)
    rival = max(("timm", "open_clip"), key=lambda name: found[name])
    ratio = found["draft"] / found[rival]
    yield at_least(work, f"{rival}'s loader", ratio, 1.2) if large else shown(work, f"{rival}'s loader", ratio)


def photographs(folder: Path, side: int, count: int) -> Path:
    """A manifest of drawn eyes, `side` pixels wide."""
    random, records = np.random.default_rng(0), []
    for number in range(count):
        height = side if number % 2 else side * 3 // 4
        eye = draw_eye(("Health",), number, 500).resize((side, side), Image.Resampling.BICUBIC)
        pixels = np.asarray(eye)[(side - height) // 2 :][:height] + random.normal(0, 3, (height, side, 1))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg", quality=90)
        records.append(Record(image=f"{number}.jpg", split="train", group=str(number), texts={"disease": ("healthy",)}))
    write_manifest(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


class Before(TrainingImages):
    """`TrainingImages` as they were read and changed before."""

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, None]:
        pixels, size = self._square(key[1]), self.preprocessing.size
        look = draw_look(pixels.shape[-2:], self.augmentation, np.random.default_rng([self.augmentation.seed, *key]))
        pixels = tvf.resized_crop(pixels, *look.box, [size, size], antialias=True)
        if look.flip:
            pixels = tvf.horizontal_flip(pixels)
        for adjust, factor in zip(
            (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation), look.factors, strict=True
        ):
            pixels = adjust(pixels, factor)
        return pixels, None

    def _square(self, index: int) -> Tensor:
        with opened(self.records[index].image) as (_, file), Image.open(file) as image:
            pixels = tvf.pil_to_tensor(ImageOps.exif_transpose(image).convert("RGB"))
        height, width = pixels.shape[-2:]
        long = max(height, width)
        left, top = (long - width) // 2, (long - height) // 2
        if left or top:
            fill = [int(value * 255) for value in self.preprocessing.mean]
            pixels = tvf.pad(pixels, [left, top, long - width - left, long - height - top], fill=fill)
        size = self.preprocessing.size * 5 // 4
        return tvf.resize(pixels, [size, size], interpolation=InterpolationMode.BICUBIC, antialias=True)


def rates(manifest: Path, size: int, rounds: int) -> dict[str, float]:
    """Images per second of each path."""
    records = read_manifest(manifest)
    augmentation = Augmentation(CROP, FLIP, JITTER, 0)
    theirs = {
        "timm": timm.data.create_transform(
            size,
            is_training=True,
            scale=(CROP, 1.0),
            hflip=FLIP,
            color_jitter=JITTER,
            interpolation="bicubic",
        ),
        "open_clip": image_transform(size, is_train=True, aug_cfg=AugmentationCfg(scale=(CROP, 1.0))),
    }

    def ours(kind: type[TrainingImages], decode: str) -> Callable[[int, int], Tensor]:
        rule = Preprocessing(size=size, decode=decode)

        def read(turn: int, index: int) -> Tensor:
            pixels = kind(records, rule, augmentation)[turn, index][0]  # a new one, which has nothing cached
            return normalise(pixels, rule) if pixels.dtype == torch.uint8 else pixels

        return read

    def other(transform: Callable[[Image.Image], Tensor]) -> Callable[[int, int], Tensor]:
        def read(turn: int, index: int) -> Tensor:
            with opened(records[index].image) as (_, file):
                return transform(Image.open(file).convert("RGB"))

        return read

    paths = {
        "before": ours(Before, "exact"),
        "exact": ours(TrainingImages, "exact"),
        "draft": ours(TrainingImages, "draft"),
    }
    paths |= {name: other(transform) for name, transform in theirs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    for turn in range(rounds + 1):
        for name, read in paths.items():
            started = time.process_time()
            for index in range(len(records)):
                assert read(turn, index).shape == (3, size, size)
            seconds[name].append((time.process_time() - started) / len(records))
    return {name: 1 / min(taken[1:]) for name, taken in seconds.items()}  # the first round warms up


if __name__ == "__main__":
    main()
