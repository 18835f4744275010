"""Hashes of large files are kept with what the file was like, and never believed of another."""

import errno
import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from mgll import kept_hashes
from mgll.kept_hashes import NAME, kept_sha256

CONTENT = bytes(range(256)) * 8


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of the files that were read for their hash; every file counts as large and as left alone."""
    names: list[str] = []
    hashed = kept_hashes.sha256

    def counting(path: Path) -> str:
        names.append(Path(path).name)
        return hashed(path)

    monkeypatch.setattr(kept_hashes, "sha256", counting)
    monkeypatch.setattr(kept_hashes, "SMALL", 0)
    monkeypatch.setattr(kept_hashes, "SETTLED", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return names


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(CONTENT)
    return path


def true_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_read_once(file: Path, read: list[str]) -> None:
    other = file.with_name("other.safetensors")
    other.write_bytes(CONTENT[:-1])
    for _ in range(3):
        assert (kept_sha256(file), kept_sha256(other)) == (true_hash(file), true_hash(other))
    assert read == [file.name, other.name]
    assert sorted(path.name for path in file.parent.iterdir()) == [NAME, file.name, other.name]


def test_a_link_and_what_it_leads_to_are_one_file(file: Path, read: list[str], tmp_path: Path) -> None:
    link = tmp_path / "link.safetensors"
    link.symlink_to(file)
    assert kept_sha256(link) == kept_sha256(file) == true_hash(file)
    assert len(read) == 1


def test_a_changed_file_is_read_anew_also_where_size_and_time_were_put_back(file: Path, read: list[str]) -> None:
    kept_sha256(file)
    stat = file.stat()
    time.sleep(0.02)  # a tick of the file system's clock
    with file.open("r+b") as opened:
        opened.write(b"other")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert kept_sha256(file) == true_hash(file) != hashlib.sha256(CONTENT).hexdigest()
    assert len(read) == 2


def test_a_copy_does_not_believe_the_hashes_that_came_with_it(file: Path, read: list[str], tmp_path: Path) -> None:
    kept_sha256(file)
    copied = shutil.copytree(file.parent, tmp_path / "copy") / file.name
    lies = json.loads((copied.parent / NAME).read_text())
    lies[file.name][1] = "0" * 64
    (copied.parent / NAME).write_text(json.dumps(lies))
    assert kept_sha256(copied) == true_hash(copied)
    assert len(read) == 2


def test_a_file_just_written_is_not_kept(file: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another change within the same tick of the clock would not be seen."""
    monkeypatch.setattr(kept_hashes, "SETTLED", 60.0)
    assert kept_sha256(file) == true_hash(file)
    assert not (file.parent / NAME).exists()


def test_small_files_leave_nothing_beside_them(file: Path) -> None:
    assert kept_sha256(file) == true_hash(file)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_beside_a_folder_that_cannot_be_written_stands_the_cache(
    file: Path, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = kept_hashes.write_text

    def on_a_read_only_disk(target: Path, text: str) -> None:
        if target.is_relative_to(file.parent):
            raise OSError(errno.EROFS, "Read-only file system", str(target))
        write(target, text)

    monkeypatch.setattr(kept_hashes, "write_text", on_a_read_only_disk)
    assert [kept_sha256(file) for _ in range(2)] == [true_hash(file)] * 2
    assert len(read) == 1
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    monkeypatch.setenv("XDG_CACHE_HOME", str(file / "not a folder"))
    assert [kept_sha256(file) for _ in range(2)] == [true_hash(file)] * 2
    assert len(read) == 3


@pytest.mark.parametrize("content", ["", "[]", "{", '{"model.safetensors": 3}', '{"model.safetensors": [["a"], 1]}'])
def test_a_damaged_record_is_written_anew(content: str, file: Path, read: list[str]) -> None:
    (file.parent / NAME).write_text(content)
    assert [kept_sha256(file) for _ in range(2)] == [true_hash(file)] * 2
    assert len(read) == 1


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a plain file"):
        kept_sha256(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        kept_sha256(tmp_path / "nothing")
