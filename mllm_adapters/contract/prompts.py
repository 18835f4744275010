"""Several prompts about one image as token ids."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EncodedPrompts:
    """Prompts about one image.

    Attributes:
        prompts: as texts.
        ids: token ids of each, the image's tokens among them.
        image: what the image processor made, `pixel_values` and the like.
        beside: further inputs as long as a text, by name, for each prompt: the ids of a second text encoder, the kinds of tokens.
    """

    prompts: tuple[str, ...]
    ids: tuple[list[int], ...]
    image: "dict[str, Tensor]"
    beside: dict[str, tuple[list[int], ...]]

    @property
    def shared(self) -> int:
        """Number of tokens with which all prompts begin; one is left to every prompt for itself."""
        shortest = min(len(ids) for ids in self.ids) - 1
        return next((i for i in range(shortest) if len({ids[i] for ids in self.ids}) > 1), shortest)
