"""Small pictures of two sources, whose colour depends on their classes, and towers with random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_towers import save_small_tower

from mgll.manifest.records import Record, Records, read_manifest, write_manifest

COLOURS = {"Glaucoma": (120, 0, 0), "Drusen": (0, 120, 0), "Mild NPDR": (0, 0, 120)}
KINDS = (("Glaucoma",), ("Drusen",), ("Mild NPDR",), ("Glaucoma", "Drusen"))


@pytest.fixture(scope="session")
def manifest(tmp_path_factory) -> Path:
    """240 pictures of 120 patients, half of each source; one image has a class that no other has, one none."""
    folder = tmp_path_factory.mktemp("pictures")
    rng, records = np.random.default_rng(0), []
    for index in range(240):
        split, labels = ("train", "train", "val", "test")[index // 2 % 4], KINDS[index // 8 % 4]
        pixels = rng.integers(0, 120, (32, 32, 3)) + np.sum([COLOURS[label] for label in labels], axis=0)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
        labels = () if index == 9 else (*labels, "MH") if index == 8 else labels
        texts = {"disease": labels, "explanation": (f"picture {index % 5}",)} if labels else {}
        group, source = f"p{index // 2}", "east" if index < 120 else "west"
        records.append(
            Record(image=f"{index}.png", split=split, group=group, texts=texts, labels=labels, source=source)
        )
    write_manifest(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


@pytest.fixture(scope="session")
def records(manifest) -> Records:
    return read_manifest(manifest)


@pytest.fixture(scope="session")
def tower_path(tmp_path_factory) -> Path:
    return save_small_tower(tmp_path_factory.mktemp("tower") / "mgll.ckpt")


@pytest.fixture
def in_64_bits(monkeypatch):
    """Torchmetrics counts and divides in 32 bits, unless all of torch is told otherwise."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(before)
