"""Measures `mgll.images.fundus_hash` on your own photographs: which altered copies it finds, and how near strangers come.

    python -m benchmark.fundus_hash.calibration MANIFEST

Strangers are photographs of different patients, compared mirrored: within one data set a left eye beside a mirrored right one has
the same anatomy and camera and is never the same photograph. Compared as they are stored, near pairs of different patients are
listed, because most of them are one patient under two names.
"""

import io
import sys
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mgll.images.fundus_hash import CROPS, MIRRORED_CROPS, THRESHOLD, distances, fundus_hashes
from mgll.images.preprocessing import open_image
from mgll.manifest.records import read_manifest

Hash = Callable[[Image.Image], "np.ndarray | None"]


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def _cropped(image: Image.Image, share: float) -> Image.Image:
    left, top = round(image.width * share), round(image.height * share)
    return image.crop((left, top, image.width - left, image.height - top))


def _scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def _several(image: Image.Image) -> Image.Image:
    return _jpeg(_scaled(ImageEnhance.Brightness(_cropped(image, 0.03)).enhance(0.8), 0.8), 60)


#: What other data sets do to a photograph. Cropping is by the share of each side.
ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG quality 50": partial(_jpeg, quality=50),
    "JPEG quality 25": partial(_jpeg, quality=25),
    "half the size": partial(_scaled, factor=0.5),
    "twice the size": partial(_scaled, factor=2),
    "squashed to a square": lambda image: image.resize((224, 224), Image.Resampling.BICUBIC),
    "black border": lambda image: ImageOps.expand(image, (40, 20, 10, 40)),
    "cropped by 2 %": partial(_cropped, share=0.02),
    "cropped by 4 %": partial(_cropped, share=0.04),
    "cropped by 6 %": partial(_cropped, share=0.06),
    "cropped by 8 %": partial(_cropped, share=0.08),
    "brightness 70 %": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "brightness 130 %": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "contrast 140 %": lambda image: ImageEnhance.Contrast(image).enhance(1.4),
    "half the colour": lambda image: ImageEnhance.Color(image).enhance(0.5),
    "turned by 2 degrees": lambda image: image.rotate(2, Image.Resampling.BICUBIC),
    "mirrored": ImageOps.mirror,
    "cropped, darker, smaller, JPEG": _several,
}


def plain_hashes(image: Image.Image) -> np.ndarray:
    """ImageHash's 256-bit `phash` of the whole photograph in the form of `fundus_hashes`: what this one is better than."""
    # here, because imagehash takes a moment to import
    from imagehash import phash

    views = [np.packbits(phash(view, 16).hash).view(np.uint64) for view in (image, ImageOps.mirror(image))]
    return np.stack([views[0], views[0], views[1], views[1]])


def copy_bits(images: Sequence[Image.Image], hash_of: Hash = fundus_hashes) -> dict[str, np.ndarray]:
    """Alteration -> [images] bits that differ between each image and its altered copy (256 where one can't be hashed)."""
    originals = [hash_of(image) for image in images]
    bits = {}
    for name, alter in ALTERATIONS.items():
        copies = [hash_of(alter(image)) for image in images]
        pairs = zip(originals, copies, strict=True)
        bits[name] = np.array([256 if a is None or b is None else distances(a[None], b[None])[0, 0] for a, b in pairs])
    return bits


def stranger_bits(hashes: np.ndarray, groups: Sequence[str], mirrored: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """[n, n] bits that differ between photographs [n, 4, 4], and which pairs are of different patients, each pair once."""
    bits = distances(hashes, hashes, MIRRORED_CROPS if mirrored else CROPS)
    names = np.asarray(groups)
    return np.minimum(bits, bits.T), np.triu(names[:, None] != names[None], 1)


@ends_in_one_line
def main(arguments: list[str] | None = None) -> None:
    """Print the shares of copies found, the near strangers, and the pairs to look at."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("manifest", help="manifest of photographs of known patients")
    parser.add_argument("--copies", type=int, default=300, help="photographs that are altered")
    parser.add_argument("--strangers", type=int, default=4000, help="photographs that are compared with each other")
    options = parser.parse_args(arguments)
    records = read_manifest(options.manifest)
    order = np.random.default_rng(0).permutation(len(records))[: options.strangers]
    paths, groups = [records[index].image for index in order], [records[index].group for index in order]
    for name, hash_of in (("fundus_hashes", fundus_hashes), ("plain phash", plain_hashes)):
        hashed = {path: hashes for path in paths if (hashes := hash_of(open_image(path))) is not None}
        kept = [group for path, group in zip(paths, groups, strict=True) if path in hashed]
        bits, strangers = stranger_bits(np.stack(list(hashed.values())), kept)
        near, fellows = bits[strangers], bits[np.triu(~(strangers | strangers.T), 1)]
        counts = ", ".join(f"{int((near <= limit).sum())} within {limit}" for limit in range(8, 81, 8))
        print(f"\n{name}: {len(near):,} pairs of strangers, the nearest differ in {near.min()} bits; {counts}")
        print(f"{len(fellows):,} pairs of one patient, mirrored; the nearest differ in {fellows.min(initial=256)} bits")
        limit = THRESHOLD if hash_of is fundus_hashes else int(near.min()) - 1
        print(f"copies found within {limit} bits, of {min(options.copies, len(paths))}:")
        for alteration, found in copy_bits([open_image(path) for path in paths[: options.copies]], hash_of).items():
            print(f"  {alteration:32s}{(found <= limit).mean():7.1%}   median {np.median(found):.0f} bits")
        if hash_of is fundus_hashes:
            bits, strangers = stranger_bits(np.stack(list(hashed.values())), kept, mirrored=False)
            rows, columns = np.nonzero(strangers & (bits <= THRESHOLD))
            print(f"{len(rows)} pairs of different patients are as near as stored; look at them:")
            names = list(hashed)
            for row, column in sorted(zip(rows, columns, strict=True), key=lambda pair: bits[pair]):
                print(f"  {bits[row, column]:3d} bits: {names[row]} {names[column]}")


if __name__ == "__main__":
    sys.exit(main())
