"""Images of every odd kind become upright RGB or a clear error, and tensors equal those of the host's own processor."""

import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.llava.image_processing_llava import LlavaImageProcessor

from mgll.images.preprocessing import ImageError, Preprocessing, open_image, preprocess


@pytest.fixture
def gradient() -> np.ndarray:
    rows, columns = np.mgrid[0:50, 0:80]
    return np.stack([rows * 5, columns * 3, (rows + columns) * 1.9], axis=-1).astype("uint8")


def test_eight_bit_rgb_is_unchanged(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.png")), gradient)


def test_sixteen_bit_grey_keeps_its_contrast(tmp_path):
    grey = np.linspace(1000, 60000, 64 * 64).reshape(64, 64).astype("uint16")
    Image.fromarray(grey).save(tmp_path / "a.png")
    pixels = np.asarray(open_image(tmp_path / "a.png")).astype(int)
    assert pixels.shape == (64, 64, 3)
    assert (pixels[0, 0, 0], pixels[-1, -1, 0]) == (0, 255)
    assert len(np.unique(pixels)) > 200
    assert abs(pixels[32, 0, 0] - 128) < 4


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1", "LA"])
def test_other_modes_become_rgb(tmp_path, gradient, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    Image.fromarray(gradient).convert(mode).save(tmp_path / f"a.{suffix}")
    image = open_image(tmp_path / f"a.{suffix}")
    assert (image.mode, image.size) == ("RGB", (80, 50))
    if mode in ("CMYK", "RGBA"):
        assert np.abs(np.asarray(image).astype(int) - gradient).mean() < 3


def tiff(values: np.ndarray, endian: str, sample_format: int, photometric: int = 1) -> bytes:
    """An uncompressed TIFF file of one strip, in either order of bytes, which Pillow itself writes in one only."""
    data = values.astype(values.dtype.newbyteorder(endian)).tobytes()
    height, width = values.shape
    fields = {256: width, 257: height, 258: values.itemsize * 8, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height}
    fields |= {279: len(data), 339: sample_format}
    directory = b"".join(struct.pack(f"{endian}HHII", tag, 4, 1, value) for tag, value in fields.items())
    start = struct.pack(f"{endian}2sHI", b"II" if endian == "<" else b"MM", 42, 8 + len(data))
    return start + data + struct.pack(f"{endian}H", len(fields)) + directory + bytes(4)


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "sample_format", "first", "step"),
    [("u2", 1, 0, 16), ("u2", 1, 30000, 8), ("i2", 2, -2000, 16), ("i4", 2, -70000, 500), ("f4", 3, 0.0, 1 / 512)],
)
def test_greys_of_more_than_eight_bits_keep_their_contrast_in_either_order_of_bytes(
    tmp_path, endian, dtype, sample_format, first, step
):
    values = (first + step * np.tile(np.arange(256), (16, 1))).astype(dtype)
    (tmp_path / "a.tif").write_bytes(tiff(values, endian, sample_format))
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.tif"))[..., 1], np.tile(np.arange(256), (16, 1)))


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_tiff_file_that_lies_on_its_side_is_put_upright(tmp_path, compression, dtype):
    """Pillow reads an uncompressed one askew where it maps the file into memory."""
    values, exif = np.zeros((32, 64), dtype), Image.Exif()
    values[:8, :16], exif[0x0112] = 255, 6
    Image.fromarray(values).save(tmp_path / "a.tif", exif=exif, compression=compression)
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.tif"))[..., 0], np.rot90(values, -1))


def test_white_may_be_zero(tmp_path):
    values = np.tile(np.arange(256), (16, 1))
    for dtype in ("u1", "u2"):
        (tmp_path / "a.tif").write_bytes(tiff(values.astype(dtype), "<", 1, photometric=0))
        assert np.array_equal(np.asarray(open_image(tmp_path / "a.tif"))[..., 0], 255 - values)


def test_hot_pixels_and_what_is_no_number_do_not_eat_the_range(tmp_path):
    values = np.tile(np.arange(256), (16, 1)).astype("u2")
    values[3, 7] = 65535
    (tmp_path / "a.tif").write_bytes(tiff(values, ">", 1))
    values[3, 7] = 255
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.tif"))[..., 0], values)
    numbers = values.astype("f4")
    numbers[0, :2] = np.nan, np.inf
    (tmp_path / "a.tif").write_bytes(tiff(numbers, "<", 3))
    grey = np.asarray(open_image(tmp_path / "a.tif"))[..., 0]
    assert grey[0, :3].tolist() == [0, 255, 2]
    assert np.array_equal(grey[1:], values[1:])


def test_a_jpeg_file_of_twelve_bits_without_its_decoder_says_what_to_install(tmp_path, monkeypatch):
    frame = bytes.fromhex("ffd8 ffc1 000b 0c 0040 0040 01 01 11 00") + bytes(100)
    (tmp_path / "a.jpg").write_bytes(frame)
    monkeypatch.setitem(sys.modules, "gdcm", None)
    with pytest.raises(
        ImageError, match=r"a JPEG file of 12 bits a sample; pip install mgll-graft\[dicom\] to read it"
    ):
        open_image(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(frame.replace(b"\x00\x40\x00\x40\x01", b"\x00\x40\x00\x40\x03"))
    with pytest.raises(ImageError, match="a JPEG file of 3 x 12 bits a pixel"):
        open_image(tmp_path / "a.jpg")


def test_exif_rotation_is_applied(tmp_path, gradient):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned; show it rotated by 90 degrees
    Image.fromarray(gradient).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = open_image(tmp_path / "a.jpg")
    assert image.size == (50, 80)
    assert np.abs(np.asarray(image).astype(int) - np.rot90(gradient, -1)).mean() < 5


@pytest.mark.slow_except("missing", "empty", "truncated", "text")
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text", "huge"])
def test_unusable_images_say_why(tmp_path, gradient, damage):
    path = tmp_path / "a.png"
    if damage != "missing":
        Image.fromarray(np.tile(gradient, (4, 4, 1))).save(path)
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "text":
        path.write_text("<html>404</html>")
    elif damage == "huge":
        Image.new("L", (20_000, 10_000)).save(path)  # 200 megapixels in a few hundred kilobytes
    words = {
        "missing": "no such image",
        "empty": "empty",
        "truncated": "damaged image",
        "text": "not an image",
        "huge": r"20000 x 10000|200000000 pixels",
    }[damage]
    with pytest.raises(ImageError, match=words) as error:
        open_image(path)
    assert "a.png" in str(error.value)


@pytest.mark.parametrize("size", [(60_000, 1), (101, 1), (300, 20_001)])
def test_strips_that_would_fill_the_memory_as_squares_are_refused(tmp_path, size):
    Image.new("L", size).save(tmp_path / "a.png")
    np.savez_compressed(tmp_path / "a.npz", np.zeros(size[::-1], np.uint8))
    for name in ("a.png", "a.npz"):
        with pytest.raises(ImageError, match=f"{name}: {size[0]} x {size[1]} is too narrow a strip"):
            open_image(tmp_path / name)


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp", "bmp", "gif", "ppm", "dds", "qoi", "sgi", "im", "jp2"])
def test_nothing_but_an_image_error_comes_out_of_a_decoder(tmp_path, gradient, ending):
    """Pillow's decoders raise ValueError, RuntimeError and more where bytes are wrong; a run must not end by them."""
    path, random = tmp_path / f"a.{ending}", np.random.default_rng(0)
    Image.fromarray(gradient).save(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    refused = []
    for attempt in range(60):
        broken = whole.copy()
        places = random.integers(0, min(len(whole), 150) if attempt % 2 else len(whole), 6)
        broken[places] = random.integers(0, 256, 6)
        path.write_bytes(broken[: len(whole) if attempt % 3 else random.integers(len(whole))].tobytes())
        try:
            assert open_image(path).mode == "RGB"
        except ImageError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all(message.startswith(str(path)) for message in refused)


@pytest.mark.parametrize("rule", ["pad", "squash", "crop"])
def test_tensors_equal_the_llava_processor(gradient, rule):
    preprocessing = Preprocessing(size=32, resize=rule, mean=(0.4, 0.3, 0.2), std=(0.3, 0.2, 0.1))
    processor = LlavaImageProcessor(
        do_pad=rule == "pad",
        size={"shortest_edge": 32} if rule == "crop" else {"height": 32, "width": 32},
        do_center_crop=rule == "crop",
        crop_size={"height": 32, "width": 32},
        image_mean=preprocessing.mean,
        image_std=preprocessing.std,
    )
    image = Image.fromarray(gradient)
    ours = preprocess(image, preprocessing)
    assert ours.shape == (3, 32, 32)
    torch.testing.assert_close(ours, processor(image, return_tensors="pt")["pixel_values"][0])
