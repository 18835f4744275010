"""Files and folders that stages write can be read by those whom the umask lets read them, whichever library wrote them."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_text_models import bert

from mgll.files import atomic_path, write_text
from mgll.manifest.shards import pack
from mgll.settings import PretrainSettings
from mgll.synthetic import generate
from mgll.training.pretraining import pretrain


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def rights(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def others(folder: Path, mask: int) -> list[str]:
    """What below a folder has other rights than new files and folders get."""
    return [
        f"{path.relative_to(folder)}: {rights(path):o}"
        for path in folder.rglob("*")
        if rights(path) != (0o777 if path.is_dir() else 0o666) & ~mask
    ]


MASKS = pytest.mark.parametrize("mask", [0o027, 0o002, 0o022, 0o077])


@MASKS
def test_a_file_of_any_library_gets_the_rights_of_the_umask(tmp_path, mask):
    with umask(mask):
        with atomic_path(tmp_path / "a.safetensors") as path:
            save_file({"a": torch.ones(2)}, path)
        with atomic_path(tmp_path / "b") as path, tempfile.NamedTemporaryFile(dir=tmp_path, delete=False) as file:
            Path(file.name).replace(path)
        write_text(tmp_path / "new" / "c.txt", "text")
        assert others(tmp_path, mask) == []


@MASKS
def test_so_does_all_that_is_in_a_folder(tmp_path, mask):
    with umask(mask), atomic_path(tmp_path / "out") as path:
        Path(tempfile.mkdtemp(dir=tmp_path)).replace(path)
        inner = Path(tempfile.mkdtemp(dir=path)).rename(path / "inner")
        save_file({"a": torch.ones(2)}, inner / "a.safetensors")
        (path / "link").symlink_to("inner")
    assert [found for found in others(tmp_path, mask) if not found.startswith("out/link")] == []


def test_a_hard_link_keeps_the_rights_of_its_owner(tmp_path):
    (tmp_path / "theirs").write_text("private")
    (tmp_path / "theirs").chmod(0o600)
    with umask(0o022), atomic_path(tmp_path / "out") as path:
        path.mkdir()
        (path / "linked").hardlink_to(tmp_path / "theirs")
    assert rights(tmp_path / "theirs") == 0o600


def test_no_file_is_left_beside_the_target(tmp_path):
    with atomic_path(tmp_path / "a.safetensors") as path:
        save_file({"a": torch.ones(2)}, path)
    assert [left.name for left in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_data_checkpoints_and_towers_can_be_shared(tmp_path, mask):
    with umask(mask):
        manifest = generate(tmp_path / "data", 8, seed=0)
        pack(manifest, tmp_path / "shards", images=4)
        settings = PretrainSettings(
            manifest=str(tmp_path / "shards" / "manifest.jsonl"),
            out=str(tmp_path / "run"),
            encoder="vit-nano-16",
            image_size=16,
            feature_width=16,
            epochs=2,
            batch_size=4,
            checkpoint_every=1,
            text_encoder=bert(tmp_path / "bert"),
        )
        pretrain(settings)
    made = [found for name in ("data", "shards", "run") for found in others(tmp_path / name, mask)]
    assert made == []
    assert list((tmp_path / "run").rglob("*.safetensors"))
