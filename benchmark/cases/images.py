"""What the model is shown for a case: its own image, or one that hides the finding."""

from collections import Counter
from collections.abc import Sequence
from threading import Lock
from typing import Literal

import numpy as np
from PIL import Image

from benchmark.cases.case import Case
from mgll.images.files import image_sha256
from mgll.images.preprocessing import ImageError, open_image

#: What the model was shown: each case's own image; a blank one; that of another case with another answer; the mean image of the
#: case's source; or the size and border of its own image, the eye painted over.
Shown = Literal["own", "blank", "shuffled", "source", "border"]

#: A blank image has the mean colour of CLIP's normalisation, so that a tower sees zeros; one size, since sizes tell sources.
BLANK_COLOUR, BLANK_SIZE = (123, 117, 104), (336, 336)

#: A mean over fewer images would show the photographs themselves: the mean over all sources stands in for it.
_LEAST_IMAGES = 5
#: Pixels no channel of which exceeds this are border, not eye.
_BORDER = 20


def open_case_image(case: Case, at_least: int | None = None) -> Image.Image:
    """The image of a case as upright RGB; a JPEG may be decoded at a smaller scale, but never below `at_least` pixels a side.

    Raises:
        ImageError: naming the case, if the image is missing, damaged or has changed since the case was made.
    """
    try:
        image = open_image(case.image, at_least=at_least)
    except ImageError as error:
        raise ImageError(f"case {case.id}: {error}") from None
    if image_sha256(case.image) != case.image_sha256:
        raise ImageError(f"case {case.id}: {case.image} is not the image that the case was made from (SHA-256 differs)")
    return image


class CaseImages:
    """The images of cases by their index, as they are shown; several threads may open them at once.

    Args:
        cases: all that are asked.
        shown: which images.
    """

    def __init__(self, cases: Sequence[Case], shown: Shown = "own") -> None:
        self._cases, self._shown = cases, shown
        self._means: dict[str, Image.Image] = {}
        self._one_mean = Lock()
        self._source = exchanged([case.code for case in cases]) if shown == "shuffled" else range(len(cases))

    def __getitem__(self, index: int) -> Image.Image:
        """The image for the case of this index.

        Raises:
            ImageError: as `open_case_image`.
            IndexError: beyond the last case.
        """
        if self._shown == "blank":
            return Image.new("RGB", BLANK_SIZE, BLANK_COLOUR)
        if self._shown == "source":
            return self._mean(self._cases[index].source)
        image = open_case_image(self._cases[self._source[index]])
        return border_only(image) if self._shown == "border" else image

    def name(self, index: int) -> str:
        """A name that two cases have in common if they are shown the same image."""
        if self._shown in ("blank", "source"):
            return self._cases[index].source if self._shown == "source" else ""
        return self._cases[self._source[index]].image_sha256

    def _mean(self, source: str) -> Image.Image:
        """The mean image of a source over all cases' images, computed once."""
        with self._one_mean:
            if source not in self._means:
                first = {case.image: case for case in self._cases}.values()
                mine = [case for case in first if case.source == source]
                self._means[source] = mean_image(mine if len(mine) >= _LEAST_IMAGES else list(first))
            return self._means[source]


def mean_image(cases: Sequence[Case]) -> Image.Image:
    """The mean of the cases' images, each squashed to the size of a blank image.

    Raises:
        ImageError: as `open_case_image`.
    """
    total = np.zeros((BLANK_SIZE[1], BLANK_SIZE[0], 3))
    for case in cases:
        total += np.asarray(open_case_image(case, BLANK_SIZE[0]).resize(BLANK_SIZE))
    return Image.fromarray(np.rint(total / len(cases)).astype(np.uint8))


def border_only(image: Image.Image) -> Image.Image:
    """The image with everything but its dark border painted in one colour: what its size and border alone tell."""
    pixels = np.array(image)
    pixels[pixels.max(axis=2) > _BORDER] = BLANK_COLOUR
    return Image.fromarray(pixels)


def exchanged(codes: Sequence[str], seed: int = 0) -> list[int]:
    """For each case the index of another one whose class differs; every case serves once.

    A class that answers more than half of the cases cannot be exchanged away altogether; as many of its cases as must keep an
    image of their own class.

    Args:
        codes: class of each case's answer.
        seed: of the order within a class.
    """
    order = np.random.default_rng(seed).permutation(len(codes))
    by_class = sorted(order.tolist(), key=lambda index: codes[index])
    step = max(Counter(codes).values(), default=0)
    partner = by_class[step:] + by_class[:step]
    source = dict(zip(by_class, partner, strict=True))
    return [source[index] for index in range(len(codes))]
