"""Features against the tower's own forward pass on ready pixels, which is the limit; and the probe on ready features.

    python tests/speed/tower_evaluation.py [--encoder vit-small-16] [--size 224] [--side 512] [--images 32] [--rounds 3]

Photographs are soft blots as JPEG files of `--side` pixels a side. Rounds alternate, and medians are compared. On a CPU decoding
and forward pass share the cores, so the ratio is that of their work; on a GPU other processes decode. The probe has as many
classes and channels as that of a small ViT on the training and validation images of 3,623 photographs; its rival is
scikit-learn's own pipeline.
"""

import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

import numpy as np
import torch
from PIL import Image
from rows import Row, at_least, at_most, say, shown

from mgll.encoders.vision import vision_encoder
from mgll.evaluation.probe import fit_probe
from mgll.images.preprocessing import Preprocessing, normalise, open_image, to_square
from mgll.tower.features import feature_batches
from mgll.tower.model import image_feature


def main() -> None:
    say(rows(parser().parse_args()))


def parser() -> ArgumentParser:
    """The flags."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="vit-small-16")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    return parser


def rows(options: Namespace | None = None) -> Iterator[Row]:
    """Features and probe."""
    with tempfile.TemporaryDirectory() as name:
        yield features(Path(name), options or parser().parse_args([]))
    yield from probe()


def features(folder: Path, options: Namespace) -> Row:
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
    return shown(
        f"forward pass on ready pixels, {options.encoder} at {options.size} px on {device}",
        f"features from JPEG files of {options.side} px",
        work,
        f"by the clock {wall:.2f} x, the forward pass {each:.1f} images/s",
    )


def probe(images: tuple[int, int] = (2724, 352), classes: int = 13, width: int = 384) -> Iterator[Row]:
    """The probe of a tower with its choice of a strength, against scikit-learn's pipeline for each strength."""
    random = np.random.default_rng(0)
    made = random.normal(size=(width, classes))
    parts = [random.normal(size=(count, width)).astype(np.float32) for count in images]
    truths = [(own @ made / np.sqrt(width) + random.normal(size=(len(own), classes))) > 1.5 for own in parts]
    fit_probe(parts[0][:99], truths[0][:99], parts[1], truths[1], (1.0,))  # imports scikit-learn
    started, worked = time.perf_counter(), time.process_time()
    found = fit_probe(parts[0], truths[0], parts[1], truths[1])
    wall, ours = time.perf_counter() - started, time.process_time() - worked
    work = f"probe of {sum(images):,} cached images, {classes} classes"
    yield at_most(work, "nothing", ours, 10, f"{len(found.tried)} strengths, {wall:.1f} s by the clock", "s of a core")
    started = time.process_time()
    best = {strength: pipeline_auc(strength, parts, truths) for strength in found.tried}
    theirs = time.process_time() - started
    note = f"best macro AUC {max(best.values()):.4f}, ours {max(found.tried.values()):.4f}"
    yield at_least("scikit-learn's pipeline over the same strengths", work, theirs / ours, 1.0, note)


def pipeline_auc(strength: float, features: list[np.ndarray], truths: list[np.ndarray]) -> float:
    """Macro AUC on the second part of scikit-learn's own scaler and logistic regression, fitted on the first."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
    fitted = make_pipeline(StandardScaler(), OneVsRestClassifier(model)).fit(features[0], truths[0])
    return float(roc_auc_score(truths[1], fitted.decision_function(features[1]), average="macro"))


if __name__ == "__main__":
    main()
