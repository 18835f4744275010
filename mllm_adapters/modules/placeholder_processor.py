"""The processor of hosts whose model is in this project.

One marker in the text becomes the image's tokens, and a stock image processor does the rest.
"""

from typing import Any

from transformers.processing_utils import ProcessorMixin


class PlaceholderProcessor(ProcessorMixin):
    """A tokenizer and an image processor of transformers; each `marker` of a prompt is written out as an image's tokens.

    Called with `images` and `text` (and `padding`, `padding_side`, `return_tensors`) it gives `input_ids` and `attention_mask`,
    both [B, length], and `pixel_values` [images, 3, H, W]. It is saved and read as any processor of transformers; the settings
    below lie in `processor_config.json`.

    Attributes:
        marker: text that stands for one image in a prompt.
        before: text in front of the image's tokens.
        token: token that the model replaces by a feature, or reads as the image's place.
        after: text behind the image's tokens.
        count: number of tokens of one image.

    Raises:
        ValueError: if `token` is not exactly one token of the tokenizer or `count` is below 1; when called, if text and images
            disagree about the number of images.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        marker: str = "<image>",
        before: str = "",
        token: str = "<image>",
        after: str = "",
        count: int = 1,
        chat_template: str | None = None,
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        ids = tokenizer.encode(token, add_special_tokens=False)
        if len(ids) != 1:
            raise ValueError(f"{token!r} is {len(ids)} tokens of this tokenizer; add it to the vocabulary as one")
        if count < 1:
            raise ValueError(f"an image of {count} tokens would not be seen")
        self.marker, self.before, self.token, self.after, self.count = marker, before, token, after, count

    @property
    def image_token(self) -> str:
        """The text that ProcessorMixin replaces."""
        return self.marker

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        """The text that ProcessorMixin puts in the place of a marker."""
        return self.before + self.token * self.count + self.after

    @property
    def unused_input_names(self) -> list[str]:
        """Names of the tokenizer's outputs to leave out: decoders do not read kinds of sentences."""
        return ["token_type_ids"]
