"""The card is measured only where it was asked for: beside other tests, in several processes, no time would mean anything."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is marked `gpu` unless `-m` names it."""
    if "gpu" in config.getoption("markexpr"):
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="takes minutes of a GPU to itself: pytest -m gpu"))
