"""InstructBLIP's processor, changed so that a prompt gives the same numbers alone and in a batch with longer ones."""

from typing import Any

from transformers import BatchFeature, InstructBlipProcessor


class SteadyInstructBlipProcessor(InstructBlipProcessor):
    """Pads each of the two texts on the side that its reader needs.

    The stock class pads the Q-Former's text on whichever side is asked for the language model's, though the Q-Former counts
    positions from the first token, padding included; and it puts the image's tokens in front of the padding, so that their
    distance to the question depends on the batch.
    """

    qformer_tokenizer: Any

    def __call__(
        self,
        images: Any = None,
        text: Any = None,
        padding: Any = False,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        **options: Any,
    ) -> BatchFeature:
        """Make `input_ids` and `attention_mask` [B, length], their `qformer_` counterparts, and `pixel_values` [B, 3, H, W]."""
        found = super().__call__(images=images, text=text, **options)
        if padding and text is not None:
            own = {name: found[name] for name in ("input_ids", "attention_mask")}
            asked = {name: found[f"qformer_{name}"] for name in own}
            own = self.tokenizer.pad(own, padding=padding, padding_side=padding_side)
            asked = self.qformer_tokenizer.pad(asked, padding=padding, padding_side="right")
            found.update({**own, **{f"qformer_{name}": asked[name] for name in asked}})
        return BatchFeature(found, tensor_type=return_tensors)
