"""Confusions count against how often the two stood side by side."""

import numpy as np

from benchmark.stats.confusion import confusion
from benchmark.stats.significance import wilson

OPTIONS = [
    ("DR", "AMD", "MH", "CSR"),
    ("DR", "AMD", "MH", "Health"),
    ("AMD", "DR", "CSR", "MH"),
    ("DR", "CSR", "MH", "AMD"),
]


def test_counts_by_pair():
    found = confusion(OPTIONS, [0, 0, 0, 0], np.array([1, 1, 0, -1]))
    assert found.codes == ("DR", "AMD", "MH", "CSR", "Health")
    dr, amd, health = (found.codes.index(code) for code in ("DR", "AMD", "Health"))
    assert found.offered[dr].tolist() == [3, 3, 3, 2, 1]
    assert found.chosen[dr].tolist() == [0, 2, 0, 0, 0]
    assert found.chosen[amd, amd] == 1
    assert found.offered[health].sum() == 0
    assert found.rate("DR", "AMD") == wilson(2, 3)
    assert found.mistakes() == [("DR", "AMD")]


def test_the_commonest_mistakes_come_first():
    found = confusion(OPTIONS[:1] * 3, [0, 0, 0], np.array([1, 2, 2]))
    assert found.mistakes() == [("DR", "MH"), ("DR", "AMD")]
