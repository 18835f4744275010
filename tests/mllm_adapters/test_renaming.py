"""Names of a published layout by a table."""

from pathlib import Path

import pytest

from mgll.formats import FormatError
from mllm_adapters.checkpoints.renaming import renamed

TABLE = ((r"tower\.(\d+)\.", r"vision.\1."), (r"tower\.", "vision."), (r"(?=head\.)", "model."))


def test_the_first_row_that_matches_the_start_decides() -> None:
    names = ["head.tower.w", "tower.3.w", "tower.norm", "table.frequencies"]
    found = renamed(names, TABLE, r"table\..*", Path("c"))
    assert list(found.items()) == [
        ("head.tower.w", "model.head.tower.w"),
        ("tower.3.w", "vision.3.w"),
        ("tower.norm", "vision.norm"),
    ]


def test_unknown_names_stop_together() -> None:
    with pytest.raises(FormatError, match=r"the family does not have: a\.w, the\.tower\.w, z\.w$"):
        renamed(["z.w", "tower.w", "the.tower.w", "a.w"], TABLE, "", Path("c"))
