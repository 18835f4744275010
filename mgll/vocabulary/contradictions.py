"""Labels that can't hold for one image: healthy and sick, a disease and its absence, two grades of one disease."""

import re
from collections.abc import Iterable
from itertools import combinations

from mgll.vocabulary.diseases import NEGATIVE_OF, diseases, implied_codes
from mgll.vocabulary.labels import class_names, label_key

#: Grades or kinds of which an eye has one.
EXCLUSIVE = (("Mild NPDR", "Moderate NPDR", "Severe NPDR", "PDR"), ("Dry AMD", "Wet AMD"))
#: What the labels of radiographs say where nothing was found, and what they say else. A device is no finding.
_NO_FINDING = label_key("No Finding")
_CHEST_FINDING = re.compile(
    r"atelectasis|(enlarged )?cardio(megaly|mediastinum)|consolidation|(pulmonary )?(edema|fibrosis)|fracture|infiltration|hernia"
    r"|(lung )?(lesion|opacity|mass|nodule)|(pleural )?(effusion|other|thickening)|pneumonia|pneumothorax|emphysema"
)
_ABNORMAL = "abnormal"
#: A longer text is a sentence, not a label.
_LONGEST = 80


def contradictions(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The pairs of labels that can't both hold for one image; none where the labels agree.

    Args:
        names: class codes, or texts of which those count that name a class, "abnormal", "No Finding" or a finding of the chest.
    """
    keys = {label_key(name): name for name in names if len(name) <= _LONGEST}
    table = class_names()
    codes = sorted({table[key] for key in keys if key in table}, key=list(diseases()).index)
    sick = [code for code in codes if code != "Health" and code not in NEGATIVE_OF]
    found = []
    if "Health" in codes:
        found += [("Health", other) for other in [*sick, *([_ABNORMAL] if _ABNORMAL in keys and not sick else [])]]
    for negative in NEGATIVE_OF.keys() & codes:
        found += [(negative, code) for code in sick if NEGATIVE_OF[negative] in implied_codes([code])]
    for group in EXCLUSIVE:
        found += combinations([code for code in codes if code in group], 2)
    if _NO_FINDING in keys:
        found += [(keys[_NO_FINDING], name) for key, name in keys.items() if _CHEST_FINDING.fullmatch(key)]
    return tuple(sorted(found))
