"""What the model is shown for a case: its own image, a blank one, or that of a case with another answer."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from benchmark.cases.case import Case
from mgll.images.files import image_sha256
from mgll.images.preprocessing import ImageError, open_image

#: What the model was shown: each case's own image, a blank one, or that of another case with another answer.
Shown = Literal["own", "blank", "shuffled"]


#: A blank image has the mean colour of CLIP's normalisation, so that a tower sees zeros; one size, since sizes tell sources.
BLANK_COLOUR, BLANK_SIZE = (123, 117, 104), (336, 336)


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
    """The images of cases by their index, as they are shown.

    Args:
        cases: all that are asked.
        shown: which images.
    """

    def __init__(self, cases: Sequence[Case], shown: Shown = "own") -> None:
        self._cases, self._shown = cases, shown
        self._source = exchanged([case.code for case in cases]) if shown == "shuffled" else range(len(cases))

    def __getitem__(self, index: int) -> Image.Image:
        """The image for the case of this index.

        Raises:
            ImageError: as `open_case_image`.
            IndexError: beyond the last case.
        """
        if self._shown == "blank":
            return Image.new("RGB", BLANK_SIZE, BLANK_COLOUR)
        return open_case_image(self._cases[self._source[index]])


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
