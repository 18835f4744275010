"""A draft of a JPEG file gives a tower what the full decode gives, within the bound; the full decode gives what it always gave."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from mgll.images.decoding import BOUND, open_for, open_photograph, open_square
from mgll.images.preprocessing import Preprocessing, to_square

SIZE = 32
#: Width, height, subsampling, quality, progressive, mode, EXIF orientation.
FILES = [
    (800, 800, 2, 92, False, "RGB", 1),
    (800, 600, 2, 75, False, "RGB", 1),
    (801, 533, 2, 92, True, "RGB", 1),
    (533, 801, 1, 92, False, "RGB", 1),
    (643, 391, 0, 85, False, "RGB", 1),
    (391, 390, 2, 92, False, "RGB", 1),
    (799, 797, 2, 92, True, "L", 1),
    (411, 414, 0, 92, False, "CMYK", 1),
    (600, 424, 2, 92, False, "RGB", 3),
    (601, 427, 1, 92, True, "RGB", 3),
    (640, 480, 2, 92, False, "RGB", 6),
    (641, 479, 2, 92, False, "RGB", 7),
]


def photograph(width: int, height: int, blur: float, seed: int = 0) -> Image.Image:
    """A bright disc on black with vessels and noise; `blur` is the width of its edge in pixels."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    radius = np.hypot(rows - height * 0.52, columns - width * 0.47)
    inside = 1 / (1 + np.exp(np.clip((radius - 0.45 * min(width, height)) / blur, -30, 30)))
    vessels = 1 - 0.4 * (np.sin(columns / 9 + 3 * np.sin(rows / 37)) > 0.9)
    shades = 1 - 0.5 * rows / height
    noise = random.normal(1, 0.03, (height, width)).astype(np.float32)
    colours = (inside * vessels * shades * noise)[..., None] * np.array([230, 130, 70])
    return Image.fromarray(colours.clip(0, 255).astype(np.uint8))


def write(image: Image.Image, path, subsampling, quality, progressive, mode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.convert(mode).save(path, subsampling=subsampling, quality=quality, progressive=progressive, exif=exif)
    return path


def as_before(path, rule: Preprocessing) -> torch.Tensor:
    """The square as it was made before there were drafts, in torchvision's own words."""
    with Image.open(path) as opened:
        pixels = tvf.pil_to_tensor(ImageOps.exif_transpose(opened).convert("RGB"))
    height, width = pixels.shape[-2:]
    if rule.resize == "pad" and height != width:
        long = max(height, width)
        left, top = (long - width) // 2, (long - height) // 2
        fill = [int(value * 255) for value in rule.mean]
        pixels = tvf.pad(pixels, [left, top, long - width - left, long - height - top], fill=fill)
    size = [rule.size] if rule.resize == "crop" else [rule.size, rule.size]
    pixels = tvf.resize(pixels, size, interpolation=InterpolationMode.BICUBIC, antialias=True)
    top, left = ((side - rule.size) // 2 for side in pixels.shape[-2:])
    return tvf.crop(pixels, top, left, rule.size, rule.size)


@pytest.mark.parametrize("blur", [0.05, 1.0], ids=["razor-sharp", "as a lens draws"])
def test_drafts_stay_within_the_bound_and_full_decodes_are_what_they_were(tmp_path, blur):
    beyond, scaled = [], 0
    for number, (width, height, *how) in enumerate(FILES):
        path = write(photograph(width, height, blur, number), tmp_path / "a.jpg", *how)
        for resize in ("pad", "squash", "crop"):
            exact, draft = (Preprocessing(size=SIZE, resize=resize, decode=decode) for decode in ("exact", "draft"))
            full = open_square(path, exact)
            assert torch.equal(full, as_before(path, exact)), (width, height, how, resize)
            scaled += max(open_photograph(path, draft).image.size) < max(width, height)
            for other in (open_square(path, draft), to_square(open_for(path, draft), exact)):
                differences = (other.int() - full.int()).abs()
                assert differences.max() <= (BOUND if blur < 1 else 5), (width, height, how, resize)
                beyond.append((differences > 2).float().mean())
    assert scaled > 2 * len(FILES)
    assert np.mean(beyond) < 0.002


@pytest.mark.parametrize(
    ("name", "width", "height", "rule"),
    [
        ("a.jpg", 6 * SIZE - 1, 300, "squash"),
        ("a.jpg", 300, 6 * SIZE - 1, "crop"),
        ("a.jpg", 6 * SIZE - 1, 100, "pad"),
        ("a.png", 700, 500, "pad"),
        ("a.webp", 700, 500, "pad"),
    ],
)
def test_what_is_small_or_no_jpeg_is_decoded_in_full(tmp_path, name, width, height, rule):
    photograph(width, height, 1.0).save(tmp_path / name)
    exact = Preprocessing(size=SIZE, resize=rule)
    draft = exact.model_copy(update={"decode": "draft"})
    assert torch.equal(open_square(tmp_path / name, draft), open_square(tmp_path / name, exact))


def test_a_draft_has_three_times_the_pixels_of_the_input_and_no_more_than_it_needs(tmp_path):
    draft = Preprocessing(size=SIZE, decode="draft")
    for side, left in ((6 * SIZE, 3 * SIZE), (12 * SIZE, 3 * SIZE), (24 * SIZE, 3 * SIZE), (48 * SIZE, 6 * SIZE)):
        photograph(side, side // 2, 1.0).save(tmp_path / "a.jpg")
        found = open_photograph(tmp_path / "a.jpg", draft)
        assert (found.image.width, found.size) == (left, (side, side // 2))


def test_margins_that_would_be_broken_pixels_are_left_to_no_one_else(tmp_path):
    """A padded photograph of 380 x 378 has margins of one pixel, which is half a pixel of a draft."""
    draft = Preprocessing(size=SIZE, decode="draft")
    photograph(380, 378, 1.0).save(tmp_path / "a.jpg")
    assert open_photograph(tmp_path / "a.jpg", draft).image.size == (190, 189)
    assert open_for(tmp_path / "a.jpg", draft).size == (380, 378)


def test_margins_of_any_colour_come_through_both_passes_of_the_resize(tmp_path):
    """Rows are made as wide as the tower's before there are margins above and below, which changes no bit."""
    random = np.random.default_rng(0)
    for _ in range(20):
        height, width = sorted(random.integers(20, 300, 2).tolist())
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / "a.png")
        rule = Preprocessing(size=int(random.integers(8, 300)), mean=tuple(random.uniform(0, 1, 3).tolist()))
        assert torch.equal(open_square(tmp_path / "a.png", rule), as_before(tmp_path / "a.png", rule)), (
            rule,
            width,
            height,
        )


def test_a_large_image_that_lies_in_several_blocks_of_memory_gives_the_same(tmp_path):
    rule = Preprocessing(size=SIZE)
    photograph(2600, 1700, 1.0).save(tmp_path / "a.jpg")  # 17.7 MB as Pillow holds it
    assert torch.equal(open_square(tmp_path / "a.jpg", rule), as_before(tmp_path / "a.jpg", rule))


def test_an_image_of_the_right_size_gives_a_tensor_of_its_own(tmp_path):
    image = photograph(SIZE, SIZE, 1.0)
    square = to_square(image, Preprocessing(size=SIZE))
    kept = square.clone()
    image.paste((255, 255, 255), (0, 0, SIZE, SIZE))
    assert torch.equal(square, kept)


def test_exact_preprocessing_is_written_as_before_there_were_drafts():
    exact, draft = Preprocessing(size=SIZE), Preprocessing(size=SIZE, decode="draft")
    assert "decode" not in exact.model_dump()
    assert "decode" not in exact.model_dump_json()
    assert Preprocessing.model_validate_json(draft.model_dump_json()) == draft
    assert Preprocessing.model_validate(exact.model_dump()) == exact
