"""Linear probe: how well a logistic regression on frozen tower features finds each class.

    python -m mgll.linear_probe mgll.ckpt --manifest manifest.jsonl
    accelerate launch --multi_gpu --num_processes 8 -m mgll.linear_probe mgll.ckpt --manifest manifest.jsonl --cache features

Under a launcher each process computes its share of the features, on its own device. The probe is that of
`mgll.evaluation`; `recipes/evaluate_tower.py` has the other readings.
"""

import math
import os
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mgll.ending import ends_in_one_line
from mgll.evaluation.evaluation import evaluate
from mgll.evaluation.features import features_of
from mgll.evaluation.linear_readings import PROBE, NothingToReadError
from mgll.evaluation.reading import ClassScore, Reading
from mgll.evaluation.settings import EvaluationSettings, add_probe_arguments, probe_settings
from mgll.evaluation.towers import tower_file
from mgll.flags import CommandParser
from mgll.formats import FormatError
from mgll.manifest.records import read_manifest

#: Classes with so many images have an average of their own.
_OFTEN = 20
_USUAL = EvaluationSettings()


def macro_auc(results: Sequence[ClassScore], min_positives: int = 1) -> float:
    """Unweighted mean AUC over the classes with at least `min_positives` positive images; NaN if there is none."""
    if not any(result.positives >= min_positives for result in results):
        return math.nan
    return float(np.mean([result.auc for result in results if result.positives >= min_positives]))


def probe_tower(
    tower: str | os.PathLike[str],
    manifest: str | os.PathLike[str],
    split: str = "test",
    cache: str | os.PathLike[str] | None = None,
) -> tuple[ClassScore, ...]:
    """Probe a tower file on a manifest: fit on the training split, choose the strength on `val`, evaluate on `split`.

    Args:
        tower: the tower file.
        manifest: the manifest.
        split: `val` or `test`.
        cache: folder of the features' cache; None keeps no features.

    Returns:
        One result for each class with 30 training images and 5 of the split, sorted by class code.

    Raises:
        FormatError: for a bad tower file or manifest, a split without images, images without labels, or none of the classes left.
        ImageError: for an image that cannot be read.
    """
    return probe_reading(tower, manifest, split, cache).by_class()


def probe_reading(
    tower: str | os.PathLike[str],
    manifest: str | os.PathLike[str],
    split: str = "test",
    cache: str | os.PathLike[str] | None = None,
    min_train: int = _USUAL.min_train,
    min_read: int = _USUAL.min_read,
    strengths: Sequence[float] = _USUAL.strengths,
) -> Reading:
    """The reading of the probe of `probe_tower`, with all scores and the strength that was chosen.

    `min_train` and `min_read` are the images that a class must have, and lack, among those fitted and those read; `strengths` those
    from which validation chooses.
    """
    found, records = tower_file(tower), read_manifest(manifest)
    with tempfile.TemporaryDirectory() as folder:
        settings = EvaluationSettings(
            cache=str(cache or folder),
            split=split,  # type: ignore[arg-type]
            shares=(),
            min_train=min_train,
            min_read=min_read,
            strengths=tuple(strengths),
            leave_source_out=False,
            zero_shot=False,
        )
        try:
            return evaluate(found, records, settings)[PROBE]
        except NothingToReadError as error:
            raise FormatError(manifest, None, str(error)) from None


@ends_in_one_line
def _main(arguments: list[str] | None = None) -> int:
    parser = CommandParser(prog="python -m mgll.linear_probe", description=__doc__)
    parser.add_argument("tower", help="tower file (mgll.ckpt)")
    parser.add_argument("--manifest", required=True, help="manifest with labels and official splits")
    parser.add_argument(
        "--split", default="test", choices=["val", "test"], help="images that are read (default %(default)s)"
    )
    parser.add_argument("--cache", help="folder in which features are kept, so that they are computed once")
    add_probe_arguments(parser)
    options = parser.parse_args(arguments)
    if not Path(options.tower).is_file():
        raise FormatError(
            options.tower,
            None,
            "no such tower file; hf:FOLDER, LAYOUT:FILE, folders and encoders by name are for recipes/evaluate_tower.py, which"
            " takes the same --manifest",
        )
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return _probe(options)
    if not options.cache:
        raise ValueError(
            "several processes share their features in a folder that all of them see: name it with --cache"
        )
    # here, because torch takes seconds to import
    from mgll.training.distributed import first_process

    images = [record.image for record in read_manifest(options.manifest) if record.labels]
    features_of(tower_file(options.tower), images, options.cache, together=True)
    with first_process() as is_first:
        return _probe(options) if is_first else 0


def _probe(options: Namespace) -> int:
    """Say how well the probe reads each class."""
    asked = probe_settings(options)
    reading = probe_reading(options.tower, options.manifest, options.split, options.cache, **asked)
    results = reading.by_class()
    for result in results:
        print(f"{result.label:24s} AUC {result.auc:.3f}  ({result.positives} of {result.positives + result.negatives})")
    if math.isnan(macro_auc(results)):
        raise FormatError(
            options.manifest, None, "the AUC of no class can be computed: no class has images with it and without"
        )
    frequent = macro_auc(results, _OFTEN)
    also = (
        f"no class has {_OFTEN} images"
        if math.isnan(frequent)
        else f"over classes with {_OFTEN} images or more {frequent:.4f}"
    )
    print(f"macro AUC {macro_auc(results):.4f}; {also}")
    chosen = "the best of the grid on validation" if len(asked["strengths"]) > 1 else "the only one given"
    print(f"strength C = {reading.strength:g}, {chosen}")
    for note in reading.notes:
        print(note)
    if reading.left_out:
        print(f"not read: {'; '.join(f'{label}, {why}' for label, why in reading.left_out.items())}")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
