"""A perceptual hash by which the same fundus photograph is found again in another file.

To an ordinary perceptual hash all fundus discs look alike: its bits go to the bright circle on black. So the disc is cut out, its
green channel is brought to even brightness and contrast (vessels and lesions are left), and only then ImageHash's `phash` is
taken, with 256 bits. Each photograph is hashed as it is and zoomed in (a crop is found by its zoomed original), and each also
mirrored.

Measured with `benchmark.fundus_hash.calibration` on 3,623 photographs of four data sets (256 pixels a side), at 52 bits:

- Strangers: none of 6.6 million pairs of different patients, compared mirrored so that no two can be one photograph (the nearest
  differ in 62 bits; within 64, 72, 80 bits: 5, 229, 3,074 pairs), and none of 1,208 pairs of fellow eyes. So fewer than one
  false pair in 2 million with 95 % confidence; continuing the fall of the tail, about one in 500 million.
- Compared as stored, 36 pairs of "different patients" were as near. All 36, looked at by eye, show one eye: the same photograph
  under two names, or taken twice.
- Copies found, of 300: JPEG quality 50 98 %, 25 88 %; resized 99 %; cropped by 2, 4, 6, 8 % of each side 96, 95, 94, 34 %;
  darker or brighter 99 %; black border 96 %; turned by 2 degrees 99 %; mirrored 100 %; cropped, darkened, reduced and JPEG 60
  together 90 %.

Plain `phash` of the whole photograph, 256 bits, has strangers at 12 bits. Kept below that it finds no crop and no border at all,
and 57 % of the brighter copies.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Bits of 256 that may differ between two files of the same photograph.
THRESHOLD = 52

SIDE = 128  # pixels of the evened disc
BLUR = 6.0  # standard deviation in pixels of the neighbourhood that brightness and contrast are evened over
RIM = 0.9  # of the radius: what lies outside is the edge of the disc, not of the eye
NOISE = 0.3  # of 255 grey levels
GREY = 1.0  # of 255 levels between red and blue, on average; the least colourful of 3,623 photographs has 10
ZOOM = 0.92  # side of the zoomed view
HASH_SIDE = 16  # squared: the bits
AS_IS, ZOOMED, MIRRORED, MIRRORED_ZOOMED = range(4)
#: Which view of one photograph is compared with which of another.
CROPS = ((AS_IS, AS_IS), (ZOOMED, AS_IS), (AS_IS, ZOOMED))
MIRRORED_CROPS = ((MIRRORED, AS_IS), (MIRRORED_ZOOMED, AS_IS), (MIRRORED, ZOOMED))
_CHUNK = 256  # photographs of a side that are compared at a time: what fits a processor's cache


def fundus_hashes(image: Image.Image) -> "NDArray[np.uint64] | None":
    """Hashes of an RGB photograph's four views, [4 views, 4 words] of 64 bits; None for one without any structure or colour.

    The threshold is calibrated on colour photographs of the fundus. What is grey, a radiograph above all, is none, and radiographs
    of different patients are alike.
    """
    from imagehash import phash  # here, because it takes half a second

    if not _coloured(image):
        return None
    disc = _disc(image.reduce(max(1, min(image.size) // (4 * SIDE))))
    margin = [round(side * (1 - ZOOM) / 2) for side in disc.size]
    zoomed = disc.crop((margin[0], margin[1], disc.width - margin[0], disc.height - margin[1]))
    plain, zoomed_in = _evened(disc), _evened(zoomed)
    if plain is None or zoomed_in is None:
        return None
    views = [plain, zoomed_in, ImageOps.mirror(plain), ImageOps.mirror(zoomed_in)]
    return np.stack([np.packbits(phash(view, HASH_SIDE).hash).view(np.uint64) for view in views])


def distances(
    hashes: "NDArray[np.uint64]",
    others: "NDArray[np.uint64]",
    views: tuple[tuple[int, int], ...] = CROPS + MIRRORED_CROPS,
) -> "NDArray[np.uint16]":
    """[n, m] bits that differ between n and m photographs [n, 4, 4], [m, 4, 4], in the pair of views where fewest do."""
    least = np.full((len(hashes), len(others)), HASH_SIDE**2, dtype=np.uint16)
    for mine, its in views:
        differing = np.zeros_like(least)
        for word in range(hashes.shape[2]):
            differing += np.bitwise_count(hashes[:, None, mine, word] ^ others[None, :, its, word])
        np.minimum(least, differing, out=least)
    return least


def near_pairs(
    hashes: "NDArray[np.uint64]", others: "NDArray[np.uint64] | None" = None, threshold: int = THRESHOLD
) -> Iterator[tuple[int, int, int]]:
    """Index among n photographs [n, 4, 4], index among m others [m, 4, 4] and differing bits of each pair that is near enough.

    Without `others` the photographs are compared with each other, each pair once, the lower index first. Which of the two is
    mirrored changes a few bits; the fewer count, so that a pair is near whichever stands first.
    """

    def block(first: int) -> list[tuple[int, int, int]]:
        mine, near = hashes[first : first + _CHUNK], []
        for second in range(first if others is None else 0, len(every), _CHUNK):
            its = every[second : second + _CHUNK]
            bits = np.minimum(distances(mine, its), distances(its, mine, MIRRORED_CROPS).T)
            for row, column in zip(*np.nonzero(bits <= threshold), strict=True):
                if others is not None or first + row < second + column:
                    near.append((first + int(row), second + int(column), int(bits[row, column])))
        return near

    every = hashes if others is None else others
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # counting bits releases the interpreter lock
        for near in threads.map(block, range(0, len(hashes), _CHUNK)):
            yield from near


def _coloured(image: Image.Image) -> bool:
    small = np.asarray(image.reduce(max(1, min(image.size) // 32)), dtype=np.int16)
    return float(np.abs(small[..., 0] - small[..., 2]).mean()) >= GREY


def _disc(image: Image.Image) -> Image.Image:
    """The box around what is not black; stretched to a square later, so that a squashed copy gives the same."""
    grey = np.asarray(image.convert("L"))
    bright = grey > max(8, 0.12 * float(np.percentile(grey, 98)))
    rows, columns = (np.flatnonzero(bright.mean(axis=axis) > 0.05) for axis in (1, 0))
    if min(len(rows), len(columns)) < 8:
        return image
    return image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))


def _evened(disc: Image.Image) -> Image.Image | None:
    """The green channel with its local mean taken off and divided by its local deviation, grey beyond the rim, [128, 128].

    None where there is nothing to see but noise: half of the disc deviates by less than `NOISE`.
    """
    from scipy.ndimage import gaussian_filter

    def blur(values: "NDArray[np.float32]") -> "NDArray[np.float32]":
        return np.asarray(gaussian_filter(values, BLUR, truncate=2.0))

    method = Image.Resampling.BICUBIC if disc.width < SIDE else Image.Resampling.BOX
    green = np.asarray(disc.getchannel("G").resize((SIDE, SIDE), method), dtype=np.float32)
    axis = (np.arange(SIDE) - (SIDE - 1) / 2) / (SIDE / 2)
    radius = np.hypot(axis[:, None], axis)
    inside = ((radius < 0.97) & (green > 0.2 * np.percentile(green, 90))).astype(np.float32)
    weight = np.maximum(blur(inside), 1e-3)
    deviation = (green - blur(green * inside) / weight) * inside
    spread = np.sqrt(blur(deviation**2) / weight)
    typical = float(np.median(spread[inside > 0])) if inside.any() else 0.0
    if typical < NOISE:
        return None
    evened = deviation / (spread + 0.1 * typical) * (radius < RIM)
    return Image.fromarray(np.clip(128 + 40 * evened, 0, 255).astype(np.uint8))
