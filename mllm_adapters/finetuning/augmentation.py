"""Random views of an image that its questions do not contradict: each a pure function of seed, image and number of the view."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mgll.vocabulary.image_words import texts_that_name
from mllm_adapters.settings import FinetuneSettings

if TYPE_CHECKING:
    from PIL import Image


#: Number of the view that shows an image as it is.
PLAIN = -1


def view_of_epoch(settings: FinetuneSettings, epoch: int) -> int:
    """Number of the view that is shown in an epoch; without augmentation always `PLAIN`."""
    if not settings.augments:
        return PLAIN
    return epoch if settings.views is None else epoch % settings.views


def augmented(image: "Image.Image", settings: FinetuneSettings, key: str, view: int) -> "Image.Image":
    """A view of an image in the image's own size.

    Args:
        image: RGB.
        settings: size of the crop, flip and jitter, and the seed.
        key: what tells the image from others, such as its hash.
        view: number of the view.
    """
    if view == PLAIN:
        return image
    # here, because torch takes seconds to import
    import numpy as np
    from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

    from mgll.training.looks import Augmentation, apply_look, draw_look

    random = np.random.default_rng([settings.seed, view, *key.encode()])
    own = Augmentation(settings.crop_scale, settings.flip, settings.colour_jitter, settings.seed)
    shape = (image.height, image.width)
    return to_pil_image(apply_look(pil_to_tensor(image), shape, draw_look(shape, own, random)))


def refuse_contradictions(settings: FinetuneSettings, texts: Iterable[str]) -> None:
    """Refuse augmentation that makes a text untrue.

    Args:
        settings: flip and jitter.
        texts: questions with their options, captions, replies.

    Raises:
        ValueError: for a flip where texts name a side, or more than slight jitter where they name colours.
    """
    # here, because torch takes seconds to import
    from mgll.training.augmentation import SAFE_JITTER

    texts = list(texts)
    if settings.flip and (sides := texts_that_name("side", texts)).texts:
        raise ValueError(f"flip {settings.flip}: {sides} name a side, which a flipped image contradicts; set flip to 0")
    if settings.colour_jitter > SAFE_JITTER and (colours := texts_that_name("colour", texts)).texts:
        raise ValueError(
            f"colour_jitter {settings.colour_jitter}: {colours} name a colour, which so much jitter changes; set it to"
            f" {SAFE_JITTER} or less"
        )
