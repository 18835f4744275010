"""What every test shares: the folder of real photographs, one thread a process, and slow tests first."""

import os
from pathlib import Path

# Two workers share a small machine, and models this small gain nothing from threads that wait for each other.
# Set before torch is imported, and for the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no worker starts one when the other has nothing left to do."""
    for item in items:
        quick = item.get_closest_marker("slow_except")
        if isinstance(item, pytest.Function) and quick and item.callspec.id not in quick.args:
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def fundus_folder() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / "fundus"
    if not (folder / "labels.csv").is_file():
        pytest.skip(f"the real fundus photographs are not at {folder}")
    return folder
