"""Which findings can stand on one eye and still be told apart."""

from collections.abc import Iterable

from mgll.synthetic.findings import FINDINGS
from mgll.vocabulary.diseases import NEGATIVE_OF, diseases, true_codes

#: An eye can have at most one finding of each of these groups: they exclude each other medically, or one would hide the other.
EXCLUSIVE = (
    ("grade of diabetic retinopathy", {"DR", "Mild NPDR", "Moderate NPDR", "Severe NPDR", "PDR"}),
    (
        "finding of the macula",
        {"Drusen", "AMD", "Dry AMD", "Wet AMD", "CN", "CSR", "DME", "ERM", "Macular Hole", "CRAO"},
    ),
    ("finding of the disc", {"ODC", "Glaucoma", "No Glaucoma", "ODE", "ODP", "CRVO", "MNF", "Retinitis Pigmentosa"}),
    ("finding of the disc", {"Myopia", "ODE", "No Glaucoma", "MNF"}),
    ("vascular event", {"BRVO", "CRVO", "CRAO", "HR", "Retinitis"}),
    ("state of the arteries", {"HR", "AR", "Retinitis Pigmentosa", "Tortuous Vessels", "ODP"}),
    ("opacity of the media", {"Cataract", "MH", "Asteroid Hyalosis"}),
    ("look of the choroid", {"Myopia", "Tessellation", "Retinitis Pigmentosa", "Chorioretinitis"}),
    ("patch of scars", {"Chorioretinitis", "Laser Scars"}),
    ("source of boat-shaped blood", {"PDR", "Preretinal Hemorrhage"}),
    ("cause of haemorrhages", {"CRVO", "Severe NPDR", "PDR"}),
    ("view on the macula of an ageing eye", {"No AMD", "Drusen", "CN", "No Glaucoma"}),
)


def drawn_codes(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels to draw, in the order of `FINDINGS`, without those that a more specific label implies (`DR` beside `PDR`)."""
    given = dict.fromkeys(labels)
    implied = {code for label in given for code in diseases()[label].implies}
    specific = [label for label in given if label not in implied]
    return tuple(sorted(specific, key=list(FINDINGS).index))


def check_labels(labels: Iterable[str]) -> None:
    """Check that labels can stand on one eye.

    Raises:
        ValueError: naming the code that is unknown, or the two that exclude each other.
    """
    labels = tuple(labels)
    for label in labels:
        if label not in FINDINGS:
            raise ValueError(f"no drawing for {label!r}; drawn are {', '.join(FINDINGS)}")
    codes = drawn_codes(labels)
    if "Health" in labels and len(set(codes) - set(NEGATIVE_OF)) > 1:
        raise ValueError(f"a healthy eye has no other finding, found {', '.join(labels)}")
    held = true_codes(set(labels) - {"Health"} - set(NEGATIVE_OF))
    for label in labels:
        if label in NEGATIVE_OF and label not in held:
            raise ValueError(f"{label!r} contradicts {NEGATIVE_OF[label]!r} in {', '.join(labels)}")
    for name, group in EXCLUSIVE:
        both = [code for code in codes if code in group]
        if len(both) > 1:
            raise ValueError(f"one eye has one {name}, found {' and '.join(both)}")
    if "No DME" in labels and "DR" not in held:
        raise ValueError("'No DME' is said of a diabetic eye: name a grade of DR beside it")


def compatible(labels: Iterable[str]) -> bool:
    """Whether `check_labels` accepts the labels."""
    try:
        check_labels(labels)
    except ValueError:
        return False
    return True
