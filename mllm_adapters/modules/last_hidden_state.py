"""For hosts that read their tower's last hidden state and nothing else of it. Imports no torch until it is used."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def encode(tower: "nn.Module", _config: Any, inputs: "dict[str, Tensor]") -> "Tensor":
    """The last hidden state of all images or tiles: [B, tokens, width]."""
    states: Tensor = tower(pixel_values=inputs["pixel_values"]).last_hidden_state
    return states


def replay(_tower: "nn.Module", _config: Any) -> "nn.Module":
    """What stands in the tower's place and hands on `encode`'s result."""
    from mllm_adapters.modules.grafted_tower import Replay

    return Replay(hand_on)


def hand_on(tokens: "Tensor") -> Any:
    """Tokens [B, tokens, width] as the output object of a tower."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    return BaseModelOutputWithPooling(last_hidden_state=tokens)
