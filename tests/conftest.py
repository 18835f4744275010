"""What every test shares: the folder of real photographs, and one thread (the suite runs on small machines)."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(max(1, min(2, torch.get_num_threads())))


@pytest.fixture(scope="session")
def fundus_folder() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / "fundus"
    if not (folder / "labels.csv").is_file():
        pytest.skip(f"the real fundus photographs are not at {folder}")
    return folder
