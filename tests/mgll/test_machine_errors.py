"""A failing drive, missing rights, too many open files and too little memory stop a command; they make no image a damaged one."""

import errno
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import launches
import numpy as np
import pytest
from PIL import Image
from tiny_text_models import bert
from torch.utils.data import DataLoader, Dataset

from benchmark.cases.__main__ import _main as cases_command
from mgll.ending import ends_in_one_line
from mgll.images.files import ImageError, image_sha256
from mgll.images.looks import look
from mgll.images.preprocessing import Preprocessing, open_image
from mgll.machine_errors import is_of_the_machine
from mgll.manifest.__main__ import _main as manifest_command
from mgll.manifest.records import Record, write_manifest
from mgll.manifest.shards import _main as pack_command
from mgll.training.data import TrainingImages
from mgll.training.looks import Augmentation

CODES = ("Health", "Drusen", "Glaucoma", "Cataract")
RECIPE = Path(__file__).parents[2] / "recipes" / "pretrain_mgll.py"


@pytest.fixture
def failing(tmp_path) -> str:
    """An image on a drive that fails: every read of it ends in EIO, as that of the first page of a process's memory."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("a file whose reading fails is needed")
    (tmp_path / "failing.tar").symlink_to("/proc/self/mem")
    return f"{tmp_path / 'failing.tar'}::a.png@0"


@pytest.fixture
def photograph(tmp_path) -> str:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


@pytest.fixture
def no_file_left() -> Iterator[None]:
    """A process that has as many files open as it may."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened[0] + 1, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    os.close(opened[0])


@pytest.mark.parametrize("read", [open_image, image_sha256, look])
def test_a_failing_drive_is_no_damaged_image(failing, read: Callable[[str], object]):
    with pytest.raises(OSError, match=r"Input/output error: .*failing\.tar"):
        read(failing)


@pytest.mark.parametrize("read", [open_image, image_sha256, look])
def test_too_many_open_files_are_no_damaged_image(photograph, no_file_left, read: Callable[[str], object]):
    with pytest.raises(OSError, match=r"Too many open files: .*a\.png"):
        read(photograph)


def test_missing_rights_are_no_damaged_image(photograph):
    Path(photograph).chmod(0)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError, match=r"a\.png"):
            open_image(photograph)
    finally:
        if was_root:
            os.seteuid(0)


def test_too_little_memory_is_no_damaged_image(tmp_path):
    Image.new("RGB", (9000, 9000)).save(tmp_path / "large.png")
    code = (
        "import resource, sys; from PIL import Image; from mgll.images.preprocessing import open_image; Image.init();"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + 100_000_000;"
        "resource.setrlimit(resource.RLIMIT_AS, (used, used)); open_image(sys.argv[1])"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "large.png")], capture_output=True, text=True)
    assert ended.stderr.strip().splitlines()[-1] == f"MemoryError: {tmp_path / 'large.png'}"


@pytest.mark.parametrize(
    "error", [OSError("broken data stream"), OSError(errno.EINVAL, "seek"), ValueError("x"), FileNotFoundError(2, "no")]
)
def test_what_decoders_raise_is_not_the_machines(error):
    assert not is_of_the_machine(error)


def test_a_damaged_offset_is_a_damaged_image(tmp_path, photograph):
    """The decoder follows it to a place before the file, which the system calls an invalid argument."""
    Image.open(photograph).convert("L").save(tmp_path / "a.tif")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[4:8] = (0xFFFFFFF0).to_bytes(4, "little")
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ImageError):
        open_image(tmp_path / "a.tif")


# --- whole stages


@pytest.fixture
def manifest(tmp_path, photograph, failing) -> Path:
    records = [
        Record(
            image=image,
            split="train",
            group=str(n),
            texts={"disease": (f"d{n % 2}",), "report": (f"r{n}",)},
            labels=(CODES[n // 2],),
        )
        for n, image in enumerate([photograph] * 7 + [failing])
    ]
    write_manifest(tmp_path / "m.jsonl", records)
    return tmp_path / "m.jsonl"


@pytest.mark.parametrize("workers", [0, 1])
def test_training_is_stopped_not_thinned(failing, capsys, workers):
    records = [Record(image=failing, split="train", group="1", texts={"a": ("x",)})]
    images = TrainingImages(records, Preprocessing(size=16), Augmentation(0.5, 0.0, 0.0, 0))

    @ends_in_one_line
    def train() -> None:
        next(iter(DataLoader(images, sampler=[(0, 0)], batch_size=None, num_workers=workers)))

    assert train() == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "input/output error" in said.lower()
    assert "Traceback" not in said


class Killed(Dataset):
    """Images whose reading takes so much memory that the system kills who reads them."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index


@pytest.mark.slow
def test_a_killed_reader_of_images_ends_in_one_line(capfd):
    @ends_in_one_line
    def train() -> None:
        next(iter(DataLoader(Killed(), num_workers=1)))

    assert train() == 1
    assert capfd.readouterr().err.splitlines()[-1].startswith("error: DataLoader worker (pid")


@pytest.mark.slow
def test_the_recipe_ends_in_one_line(manifest, tmp_path):
    arguments = {
        "manifest": manifest,
        "out": tmp_path / "run",
        "encoder": "vit-nano-16",
        "text_encoder": bert(tmp_path / "bert"),
    }
    arguments |= {"image_size": 16, "feature_width": 16, "epochs": 1, "batch_size": 8, "workers": 1, "max_bad_share": 1}
    ended = launches.run([RECIPE, *(part for n, value in arguments.items() for part in (f"--{n}", str(value)))])
    assert ended.returncode == 1
    assert "error: " in ended.stderr.strip().splitlines()[-1]
    assert "input/output error" in ended.stderr.lower()
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "run" / "mgll.ckpt").exists()


def test_packing_and_grouping_end_in_one_line(manifest, tmp_path, capsys):
    assert pack_command([str(manifest), "--out", str(tmp_path / "shards")]) == 1
    assert "input/output error" in capsys.readouterr().err.splitlines()[-1].lower()
    assert not list((tmp_path / "shards").glob("*.tar"))
    assert manifest_command(["group", str(manifest), "--out", str(tmp_path / "g.jsonl")]) == 1
    assert "input/output error" in capsys.readouterr().err.lower()
    assert not (tmp_path / "g.jsonl").exists()


def test_a_shard_that_cannot_be_written_ends_in_one_line(photograph, tmp_path, capsys):
    write_manifest(tmp_path / "m.jsonl", [Record(image=photograph, split="train", group="1", texts={"a": ("x",)})])
    (tmp_path / "shards").mkdir()
    assert pack_command([str(tmp_path / "m.jsonl"), "--out", str(tmp_path / "shards")]) == 0
    (tmp_path / "shards" / "000000.tar").unlink()
    (tmp_path / "shards" / f".000000.tar.{socket.gethostname()}-{os.getpid()}.tmp").symlink_to("/dev/full")
    capsys.readouterr()
    assert pack_command([str(tmp_path / "m.jsonl"), "--out", str(tmp_path / "shards")]) == 1
    assert "No space left on device" in capsys.readouterr().err


def test_cases_are_not_built_without_an_image_that_the_drive_refused(manifest, tmp_path, capsys):
    arguments = [
        "--manifest",
        str(manifest),
        "--out",
        str(tmp_path / "cases.jsonl"),
        "--split",
        "train",
        "--min-images",
        "1",
    ]
    assert cases_command(["build", *arguments]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert "input/output error" in said[-1].lower()
    assert not (tmp_path / "cases.jsonl").exists()
