"""Labels that can't hold for one image: healthy and sick, a disease and its absence, two grades of one disease."""

import re
from collections.abc import Iterable
from itertools import combinations

from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS
from mgll.vocabulary.labels import class_names, label_key

#: What the labels of radiographs say where nothing was found, and what they say else. A device is no finding.
_NO_FINDING = label_key("No Finding")
_CHEST_FINDING = re.compile(
    r"atelectasis|(enlarged )?cardio(megaly|mediastinum)|consolidation|(pulmonary )?(edema|fibrosis)|fracture|infiltration|hernia"
    r"|(lung )?(lesion|opacity|mass|nodule)|(pleural )?(effusion|other|thickening)|pneumonia|pneumothorax|emphysema"
)
_ABNORMAL = "abnormal"
#: A longer text is a sentence, not a label.
_LONGEST = 80


def contradictions(names: Iterable[str], table: ClassTable = FUNDUS) -> tuple[tuple[str, str], ...]:
    """The pairs of labels that can't both hold for one image; none where the labels agree.

    Args:
        names: class codes, or texts of which those count that name a class, or "abnormal". Where the table does not have "No
            Finding", that and the usual findings of the chest count too.
        table: the classes, which say by `excludes` what can't hold beside them.
    """
    keys = {label_key(name): name for name in names if len(name) <= _LONGEST}
    known = class_names(table)
    codes = sorted({known[key] for key in keys if key in known}, key=list(table.classes).index)
    found = []
    for first, second in combinations(codes, 2):
        if table.exclude(first, second):
            found.append((first, second))
        elif table.exclude(second, first):
            found.append((second, first))
    if table.normal in codes and _ABNORMAL in keys and not any(table.normal in pair for pair in found):
        found.append((str(table.normal), _ABNORMAL))
    if _NO_FINDING in keys and _NO_FINDING not in known:
        found += [(keys[_NO_FINDING], name) for key, name in keys.items() if _CHEST_FINDING.fullmatch(key)]
    return tuple(sorted(found))
