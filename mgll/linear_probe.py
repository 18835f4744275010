"""Linear probe: how well a logistic regression on frozen tower features finds each class.

python -m mgll.linear_probe mgll.ckpt --manifest manifest.jsonl
"""

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgll.ending import ends_in_one_line
from mgll.formats import FormatError
from mgll.manifest.records import read_manifest
from mgll.tower.features import tower_features
from mgll.vocabulary.diseases import NEGATIVE_OF, diseases


@dataclass(frozen=True)
class ProbeResult:
    """The result for one class: its area under the ROC curve, and how many positive and negative images were evaluated."""

    label: str
    auc: float
    positives: int
    negatives: int


def macro_auc(results: Sequence[ProbeResult], min_positives: int = 1) -> float:
    """Unweighted mean AUC over the classes with at least `min_positives` positive images; NaN if there is none."""
    if not any(result.positives >= min_positives for result in results):
        return math.nan
    return float(np.mean([result.auc for result in results if result.positives >= min_positives]))


def fold_grades(labels: Sequence[str]) -> set[str]:
    """Class codes with grades replaced by what they grade (`Mild NPDR` -> `DR`); negative classes (`No AMD`) are left out."""
    table = diseases()
    return {
        code
        for label in labels
        for code in ((label,) if table[label].cases or not table[label].implies else table[label].implies[:1])
        if code not in NEGATIVE_OF
    }


def probe(
    train: np.ndarray,
    train_labels: Sequence[set[str]],
    test: np.ndarray,
    test_labels: Sequence[set[str]],
    min_train: int = 30,
    min_test: int = 5,
    strength: float = 0.1,
) -> list[ProbeResult]:
    """One-against-rest logistic regression on standardised features.

    Args:
        train: features [N, width].
        train_labels: the set of class codes of each training image.
        test: features [M, width].
        test_labels: the set of class codes of each evaluated image.
        min_train: classes with fewer training images are left out.
        min_test: classes with fewer images in the evaluation are left out.
        strength: inverse strength C of the regularisation; towers can only be compared at the same C.

    Returns:
        One result for each class that is left, sorted by class code.
    """
    # here, because scikit-learn takes a moment to import
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    results = []
    for label in sorted({code for labels in train_labels for code in labels}):
        y = np.array([label in labels for labels in train_labels])
        z = np.array([label in labels for labels in test_labels])
        if y.sum() < min_train or z.sum() < min_test or z.all():
            continue
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000).fit(train, y)
        auc = float(roc_auc_score(z, model.decision_function(test)))
        results.append(ProbeResult(label, auc, int(z.sum()), int((~z).sum())))
    return results


def probe_tower(
    tower: str | os.PathLike[str], manifest: str | os.PathLike[str], split: str = "test"
) -> list[ProbeResult]:
    """Probe a tower file on a manifest: fit on the training split, evaluate on `split`.

    Raises:
        FormatError: for a bad tower file or manifest, a split without images, or images without labels.
        ImageError: for an image that cannot be read.
    """
    fit, held_out = read_manifest(manifest, "train"), read_manifest(manifest, split)  # type: ignore[arg-type]
    for part, records in (("train", fit), (split, held_out)):
        if not any(fold_grades(record.labels) for record in records):
            raise FormatError(
                manifest, None, f"no image of split {part!r} has a label; a probe needs `labels`, not texts alone"
            )
    return probe(
        tower_features(tower, [record.image for record in fit]),
        [fold_grades(record.labels) for record in fit],
        tower_features(tower, [record.image for record in held_out]),
        [fold_grades(record.labels) for record in held_out],
    )


@ends_in_one_line
def _main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m mgll.linear_probe", description=__doc__)
    parser.add_argument("tower")
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--split", default="test", choices=["val", "test"])
    options = parser.parse_args(arguments)
    results = probe_tower(options.tower, options.manifest, options.split)
    if not results:
        raise FormatError(
            options.manifest,
            None,
            f"no class has 30 training images and 5 of split {options.split!r}, which the probe asks for",
        )
    for result in results:
        print(f"{result.label:24s} AUC {result.auc:.3f}  ({result.positives} of {result.positives + result.negatives})")
    print(f"macro AUC {macro_auc(results):.4f}; over classes with 20 images or more {macro_auc(results, 20):.4f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
