"""Features against the tower's own forward pass on ready pixels, which is the limit; and the probe on ready features, in seconds.

    python tests/speed/tower_evaluation.py [--encoder vit-small-16] [--size 224] [--side 512] [--images 32] [--rounds 3]

Photographs are soft blots as JPEG files of `--side` pixels a side. Rounds alternate, and medians are compared. On a CPU decoding
and forward pass share the cores, so the ratio is that of their work; on a GPU other processes decode. The probe has as many images,
classes and channels as that of a small ViT on 3,623 photographs.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mgll.encoders.vision import vision_encoder
from mgll.evaluation.probe import fit_probe
from mgll.images.preprocessing import Preprocessing, normalise, open_image, to_square
from mgll.tower.features import feature_batches
from mgll.tower.model import image_feature


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="vit-small-16")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        features(Path(name), options)
    probe()


def features(folder: Path, options: argparse.Namespace) -> None:
    random, device = np.random.default_rng(0), "cuda" if torch.cuda.is_available() else "cpu"
    images = [str(folder / f"{number}.jpg") for number in range(options.images)]
    for image in images:
        Image.fromarray(random.integers(0, 256, (options.side, options.side, 3), dtype=np.uint8)).save(
            image, quality=90
        )
    preprocessing = Preprocessing(size=options.size)
    model = vision_encoder(options.encoder, options.size).eval().to(device)
    batch = min(16, options.images)
    squares = torch.stack([to_square(open_image(image), preprocessing) for image in images])
    pixels = [normalise(part.to(device), preprocessing) for part in squares.split(batch)]

    def forward() -> None:
        with torch.inference_mode():
            for part in pixels:
                image_feature(model, part, "mean").float().cpu().numpy()

    def whole() -> None:
        for _ in feature_batches(model, preprocessing, "mean", images, batch, show=False):
            pass

    seconds: dict[str, list[tuple[float, float]]] = {"forward pass": [], "features": []}
    for run in (forward, whole):  # warms up
        run()
    for _ in range(options.rounds):
        for kind, run in zip(seconds, (forward, whole), strict=True):
            started, worked = time.perf_counter(), time.process_time()
            run()
            seconds[kind].append((time.perf_counter() - started, time.process_time() - worked))
    wall, work = (
        float(
            np.median([a[place] / b[place] for a, b in zip(seconds["forward pass"], seconds["features"], strict=True)])
        )
        for place in (0, 1)
    )
    each = options.images / float(np.median([own[0] for own in seconds["forward pass"]]))
    print(
        f"{options.encoder} at {options.size} px on {device}: features at {wall:.0%} of the forward pass's throughput"
        f" ({work:.0%} by processor time), which is {each:.1f} images/s"
    )


def probe(images: tuple[int, int] = (2724, 352), classes: int = 13, width: int = 384) -> None:
    random = np.random.default_rng(0)
    made = random.normal(size=(width, classes))
    parts = [random.normal(size=(count, width)).astype(np.float32) for count in images]
    truths = [(own @ made / np.sqrt(width) + random.normal(size=(len(own), classes))) > 1.5 for own in parts]
    started, worked = time.perf_counter(), time.process_time()
    found = fit_probe(parts[0], truths[0], parts[1], truths[1])
    print(
        f"probe of {images[0]:,} images, {classes} classes, {len(found.tried)} strengths: {time.perf_counter() - started:.1f} s,"
        f" {time.process_time() - worked:.1f} s of processor time"
    )


if __name__ == "__main__":
    main()
