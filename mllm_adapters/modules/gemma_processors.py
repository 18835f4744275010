"""Processors of the hosts around Gemma: Gemma 3 and PaliGemma 2."""

from typing import Any

from transformers import Gemma3Processor, PaliGemmaProcessor
from transformers.processing_utils import ImagesKwargs


class OneImageAPrompt(Gemma3Processor):
    """Gemma 3's processor for one image a prompt, which a graft sees whole."""

    images_kwargs = ImagesKwargs()  # the stock class's are about crops

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> Any:
        """Do what the stock class does, which takes a flat list for the images of one prompt."""
        nested = images and [image if isinstance(image, list | tuple) else [image] for image in images]
        return super().__call__(images=nested, text=text, **options)

    def replace_image_token(self, *_: Any, **__: Any) -> str:
        """Write the image tokens of one photograph."""
        return self.full_image_sequence


class AsAsked(PaliGemmaProcessor):
    """PaliGemma's processor without labels, and without a line break behind the prompt, which would come after an answer too."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Do what the stock class does for questions."""
        found = super().__call__(*arguments, **options)
        found.pop("labels", None)
        return found

    def prepare_inputs_layout(self, *arguments: Any, **options: Any) -> Any:
        """Lay images and prompts out as the stock class does, without the line break."""
        images, text, *rest = super().prepare_inputs_layout(*arguments, **options)
        return images, text and [each.removesuffix("\n") for each in text], *rest
