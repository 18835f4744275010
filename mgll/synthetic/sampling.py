"""Which findings an eye has: class frequencies from Table 14, grades, companions."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from mgll.synthetic.compatibility import compatible
from mgll.synthetic.findings import GRADES
from mgll.vocabulary.diseases import NEGATIVE_OF, benchmark_classes

#: Odds of the grades and kinds in `findings.GRADES`.
_GRADE_ODDS = MappingProxyType(
    {
        "DR": (0.25, 0.35, 0.2, 0.2),
        "AMD": (0.6, 0.4),
        "Other": (0.18, 0.18, 0.16, 0.1, 0.08, 0.08, 0.06, 0.08, 0.08),
        # A macula swells rarely in mild disease.
        "DME": (0.0, 0.5, 0.3, 0.2),
        "No DME": (0.3, 0.4, 0.15, 0.15),
    }
)
#: Share of eyes that have a second, unrelated finding.
COMPANIONS = 0.25
#: Classes that mostly affect both eyes of a person.
BILATERAL = frozenset(
    ("Health", "Myopia", "Tessellation", "DR", "Drusen", "Cataract", "AR", "ODC", "HR", "AMD", "DME", "Glaucoma")
) | frozenset(NEGATIVE_OF)


def class_weights(power: float = 0.25) -> Mapping[str, float]:
    """Odds of the 25 classes as an eye's main one: Table 14's counts to a power, normalised.

    A power of 1 gives the paper's frequencies (Health 40 %, AR 0.1 %), 0 gives equal ones. The default flattens them so far that
    the commonest class comes five times as often as the rarest, and each occurs often enough to be learned and scored.
    """
    counts = {disease.code: disease.cases**power for disease in benchmark_classes()}
    total = sum(counts.values())
    return {code: count / total for code, count in counts.items()}


def sample_eye(
    rng: np.random.Generator, weights: Mapping[str, float] | None = None, main: str | None = None
) -> tuple[str, ...]:
    """Draw the labels of one eye, most specific codes only (`PDR`, not `DR` with it).

    Args:
        rng: source of randomness.
        weights: odds of the classes, `class_weights()` if None.
        main: the class to draw an eye of; drawn from `weights` if None.
    """
    weights = class_weights() if weights is None else weights
    labels = main_labels(rng, _draw(rng, weights) if main is None else main)
    if "Health" not in labels and rng.random() < COMPANIONS:
        second = main_labels(rng, _draw(rng, weights))
        lone = not set(second) & {"Health", *NEGATIVE_OF}
        if lone and compatible((*labels, *second)) and len({*labels, *second}) == len(labels) + len(second):
            labels = (*labels, *second)
    return labels


def main_labels(rng: np.random.Generator, code: str) -> tuple[str, ...]:
    """The labels of an eye of one benchmark class and nothing else: its grade or kind, or with the disease it refers to."""
    if code in ("DME", "No DME"):
        return (str(rng.choice(GRADES["DR"], p=_GRADE_ODDS[code])), code)
    if code in GRADES:
        kind = str(rng.choice(GRADES[code], p=_GRADE_ODDS[code]))
        return (code, kind) if code == "Other" else (kind,)
    return (code,)


def sample_fellow(rng: np.random.Generator, main: str, weights: Mapping[str, float]) -> str:
    """Draw the main class of the other eye of a person whose first eye has the main class `main`."""
    if main in BILATERAL and rng.random() < 0.6:
        return main
    return _draw(rng, weights)


def _draw(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    odds = np.fromiter(weights.values(), float)
    return str(rng.choice(list(weights), p=odds / odds.sum()))
