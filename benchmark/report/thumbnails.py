"""Small copies of the cases' images for the page: as large as all of them together allow."""

import base64
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from PIL import Image

from benchmark.cases.case import Case
from benchmark.cases.images import open_case_image

#: Longest sides to try, in pixels, with their JPEG quality, the best first. WebP gives a little more for the same bytes, and takes
#: four times as long, which was half of the time of a whole report.
COPIES = ((512, 75), (384, 65), (320, 60), (256, 60), (256, 50), (224, 50), (192, 50), (160, 50), (128, 50), (96, 50))

_SAMPLE = 48  # images whose sizes tell which side will do for all of them


def embedded_images(cases: Sequence[Case], budget: int) -> tuple[dict[str, str], int]:
    """Each distinct image of the cases as a data URI, once.

    Args:
        cases: whose images; those that share one are recognised by its hash.
        budget: characters that all URIs may have together. Where even the smallest copies exceed it, the last images are left out.

    Returns:
        Image hash -> URI, and the longest side in pixels.

    Raises:
        ImageError: naming the case whose image is missing, damaged or has changed.
    """
    distinct: Mapping[str, Case] = {case.image_sha256: case for case in reversed(cases)}
    wanted = list(dict.fromkeys(case.image_sha256 for case in cases))
    first = [distinct[key] for key in wanted]
    sample = first[:: max(1, len(first) // _SAMPLE)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for side, quality in COPIES:
            encode = partial(_data_uri, side=side, quality=quality)
            smallest = (side, quality) == COPIES[-1]
            expected = sum(map(len, pool.map(encode, sample))) * len(first) / max(1, len(sample))
            if expected > budget and not smallest:
                continue
            uris = dict(zip(wanted, pool.map(encode, first), strict=True))
            if smallest:
                uris = _first_that_fit(uris, budget)
            if sum(map(len, uris.values())) <= budget:
                return uris, side
    raise AssertionError("the smallest side always fits")


def _data_uri(case: Case, side: int, quality: int) -> str:
    image = open_case_image(case, at_least=side)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _first_that_fit(uris: Mapping[str, str], budget: int) -> dict[str, str]:
    kept = {}
    for key, uri in uris.items():
        budget -= len(uri)
        if budget < 0:
            break
        kept[key] = uri
    return kept
