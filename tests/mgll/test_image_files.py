"""Images inside npz files and tar shards: the same pixels as in a file of their own, and a clear error for everything else."""

import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from mgll.images.files import ImageError, image_exists, image_sha256, tar_member
from mgll.images.preprocessing import open_image
from mgll.manifest.shards import read_shard


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("names", [["image"], ["anything"], ["image", "mask"]])
def test_an_array_in_an_npz_file_is_an_image(tmp_path, pixels, names):
    np.savez(tmp_path / "a.npz", **{name: pixels if name != "mask" else pixels[..., 0] for name in names})
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.npz")), pixels)


def test_grey_and_fortran_order(tmp_path, pixels):
    np.savez_compressed(tmp_path / "a.npz", image=np.asfortranarray(pixels[..., 0]))
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.npz"))[..., 1], pixels[..., 0])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.zeros((4, 4), np.float32)}, r"expected uint8 \[H, W\] or \[H, W, 3\], found float32 \[4, 4\]"),
        ({"image": np.zeros((4, 4, 4), np.uint8)}, r"found uint8 \[4, 4, 4\]"),
        ({"image": np.zeros((0, 4), np.uint8)}, "4 x 0 is not between"),
        ({"image": np.array([{"a": 1}], dtype=object)}, "found object"),
        ({"a": np.zeros(3), "b": np.zeros(3)}, "expected one array, or one called 'image'"),
    ],
)
def test_other_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ImageError, match=message):
        open_image(tmp_path / "a.npz")


def test_a_giant_array_is_refused_before_memory_is_taken(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6, 3)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("image.npy", header.getvalue())
    with pytest.raises(ImageError, match="1000000 x 1000000 is not between 1 and 100 megapixels"):
        open_image(tmp_path / "a.npz")


def test_damaged_npz_files_are_named(tmp_path, pixels):
    np.savez_compressed(tmp_path / "a.npz", image=np.tile(pixels, (20, 20, 1)))
    whole = (tmp_path / "a.npz").read_bytes()
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 255
    for content in (whole[: len(whole) // 2], b"text", bytes(broken), pickle.dumps({"image": pixels})):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ImageError, match=r"a\.npz: "):
            open_image(tmp_path / "a.npz")


@pytest.fixture
def shard(tmp_path, pixels):
    """A tar file with a folder, a name of more than 100 bytes, and an npz file."""
    png, npz = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(png, format="PNG")
    np.savez(npz, image=pixels)
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, data in ((f"deep/{'x' * 200}.png", png.getvalue()), ("b.npz", npz.getvalue()), ("e.png", b"")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return tmp_path / "s.tar"


def test_members_of_a_shard_are_images(shard, pixels):
    long, npz, empty = (sample.image for sample in read_shard(shard))
    assert np.array_equal(np.asarray(open_image(str(long))), pixels)
    assert np.array_equal(np.asarray(open_image(str(npz))), pixels)
    with pytest.raises(ImageError, match="the file is empty"):
        open_image(str(empty))
    assert image_exists(str(npz))
    assert not image_exists(str(npz).replace("s.tar", "t.tar"))
    assert image_sha256(str(long)) != image_sha256(str(npz))


def test_a_shard_that_was_packed_anew_is_noticed(shard):
    _, npz, _ = (sample.image for sample in read_shard(shard))
    for stale, message in (
        (str(npz).replace("b.npz", "c.npz"), "the shard holds 'b.npz' there"),
        (str(npz)[:-1] + "7", "no member begins there"),
        (str(npz).replace("s.tar", "t.tar"), "no such shard"),
    ):
        with pytest.raises(ImageError, match=message):
            open_image(stale)
    shard.write_bytes(shard.read_bytes()[: npz.offset + 600])
    with pytest.raises(ImageError, match="cut short"):
        open_image(str(npz))


@pytest.mark.parametrize("name", ["a.png", "a.tar", "a.tar::b", "a.tar::b@x", "a.zip::b@3"])
def test_plain_paths_are_no_members(name):
    assert tar_member(name) is None
