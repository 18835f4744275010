"""What a stage knows the images of a manifest by: their bytes where they are few, sizes and times of change where they are many."""

import os
import shutil
from pathlib import Path

import pytest

from mgll.manifest import image_identity
from mgll.manifest.image_identity import data_identity
from mgll.synthetic.dataset import generate


def test_a_fresh_copy_is_the_same_and_one_other_byte_is_not(tmp_path: Path) -> None:
    manifest = generate(tmp_path / "eyes", 6, seed=0, size=32, progress=False)
    first = data_identity(str(manifest))
    copy = shutil.copytree(tmp_path / "eyes", tmp_path / "copy", copy_function=shutil.copyfile)  # with times of its own
    assert data_identity(str(copy / manifest.name)) == first
    image = next((tmp_path / "copy").rglob("*.jpg"), None) or next((tmp_path / "copy").rglob("*.png"))
    content, state = bytearray(image.read_bytes()), image.stat()
    content[-1] ^= 1
    image.write_bytes(content)
    os.utime(image, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert data_identity(str(copy / manifest.name))["images"] != first["images"]


def test_of_many_bytes_the_times_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = generate(tmp_path / "eyes", 6, seed=0, size=32, progress=False)
    monkeypatch.setattr(image_identity, "READ_WHOLE", 0)
    first = data_identity(str(manifest))
    assert data_identity(str(manifest)) == first
    copy = shutil.copytree(tmp_path / "eyes", tmp_path / "copy", copy_function=shutil.copyfile)
    assert data_identity(str(copy / manifest.name))["images"] != first["images"]
