"""Several prompts about one image as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EncodedPrompts:
    """Prompts about one image.

    Attributes:
        prompts: the prompts as texts.
        ids: token ids of each prompt, those of the image included.
        image: inputs that the image processor made, such as `pixel_values`.
        beside: further inputs that are as long as a text, by name, for each prompt: ids for a second text encoder, kinds of tokens.
    """

    prompts: tuple[str, ...]
    ids: tuple[list[int], ...]
    image: "dict[str, Tensor]"
    beside: dict[str, tuple[list[int], ...]]

    @property
    def shared(self) -> int:
        """Number of first tokens that all prompts have in common; every prompt keeps at least one token of its own."""
        shortest = min(len(ids) for ids in self.ids) - 1
        return next((i for i in range(shortest) if len({ids[i] for ids in self.ids}) > 1), shortest)

    def only(self, prompts: Sequence[int]) -> "EncodedPrompts":
        """Some of the prompts, by their numbers."""
        beside = {name: tuple(rows[prompt] for prompt in prompts) for name, rows in self.beside.items()}
        texts = tuple(self.prompts[prompt] for prompt in prompts)
        return EncodedPrompts(texts, tuple(self.ids[prompt] for prompt in prompts), self.image, beside)
