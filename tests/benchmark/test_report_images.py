"""The page's images: each once, as large as they may be together, turned upright, and the right ones."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from benchmark.report.thumbnails import COPIES, embedded_images
from mgll.files import sha256
from mgll.images.preprocessing import ImageError


@pytest.fixture(scope="module")
def noisy(coloured_cases, tmp_path_factory):
    """Cases about ten photographs of 700 x 500 with much detail, the first two about the same one."""
    folder, cases = tmp_path_factory.mktemp("noisy"), []
    for number, case in enumerate(coloured_cases(11)):
        pixels = np.random.default_rng(max(number, 1)).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        path = folder / f"{max(number, 1)}.jpg"
        Image.fromarray(pixels).resize((700, 500), Image.Resampling.BILINEAR).save(path, quality=92)
        cases.append(case.model_copy(update={"image": str(path), "image_sha256": sha256(path)}))
    return cases


def opened(uri: str) -> Image.Image:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_shared_image_is_embedded_once(noisy):
    images, side = embedded_images(noisy, 10_000_000)
    assert len(noisy) == 11
    assert list(images) == list(dict.fromkeys(case.image_sha256 for case in noisy))
    assert len(images) == 10
    assert side == COPIES[0][0]
    assert opened(images[noisy[0].image_sha256]).size == (512, 366)


@pytest.mark.slow
def test_the_budget_decides_the_size(noisy):
    sides = []
    for budget in (10_000_000, 150_000, 90_000, 50_000):
        images, side = embedded_images(noisy, budget)
        assert sum(map(len, images.values())) <= budget
        assert len(images) == 10
        sides.append(side)
    assert sides == sorted(sides, reverse=True)
    assert len(set(sides)) == 4


@pytest.mark.slow
def test_where_nothing_fits_the_first_ones_are_kept(noisy):
    whole, side = embedded_images(noisy, 10_000)
    assert side == COPIES[-1][0]
    assert 0 < len(whole) < 10
    assert list(whole) == list(dict.fromkeys(case.image_sha256 for case in noisy))[: len(whole)]
    assert embedded_images(noisy, 0)[0] == {}


def test_the_same_bytes_every_time(noisy):
    assert embedded_images(noisy, 200_000) == embedded_images(noisy, 200_000)


def test_a_small_copy_looks_like_the_photograph(noisy):
    case = noisy[-1]
    small = opened(embedded_images([case], 20_000)[0][case.image_sha256]).convert("RGB")
    original = Image.open(case.image).convert("RGB").resize(small.size, Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(small, float) - np.asarray(original, float)).mean() < 8


def test_a_changed_image_is_refused(noisy):
    with pytest.raises(ImageError, match="case-000"):
        embedded_images([noisy[0].model_copy(update={"image_sha256": "0" * 64})], 10_000)
