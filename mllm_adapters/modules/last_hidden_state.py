"""Methods of hosts whose connector reads the last hidden state of their tower. Imports no torch until a model runs."""

from typing import TYPE_CHECKING, Any

from mllm_adapters.contract.host import Host
from mllm_adapters.contract.tower_spec import TowerSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


class LastHiddenStateHost(Host):
    """A host whose connector reads the tower's last hidden state and nothing else of its output."""

    def build_tower(self, spec: TowerSpec, config: Any) -> "nn.Module":
        """The donor, with its tokens as the last hidden state."""
        # here, because torch takes seconds to import
        from mllm_adapters.modules.grafted_tower import GraftedTower

        return GraftedTower(spec, as_last_hidden_state)

    def encode(self, tower: "nn.Module", config: Any, inputs: "dict[str, Tensor]") -> "Tensor":
        """The last hidden state of all images or tiles: [B, tokens, width]."""
        states: Tensor = tower(pixel_values=inputs["pixel_values"]).last_hidden_state
        return states

    def replay(self, tower: "nn.Module", config: Any) -> "nn.Module":
        """A module that returns kept tokens as the last hidden state."""
        from mllm_adapters.modules.grafted_tower import Replay

        return Replay(as_last_hidden_state)


def as_last_hidden_state(tokens: "Tensor") -> Any:
    """The output object of a tower whose last hidden state are these tokens [B, tokens, width]."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    return BaseModelOutputWithPooling(last_hidden_state=tokens)
