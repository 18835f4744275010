"""Methods of hosts whose configuration says which hidden states the connector reads. Imports no torch until a model runs."""

from typing import TYPE_CHECKING, Any

from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Host
from mllm_adapters.contract.terms import HostError
from mllm_adapters.contract.tower_spec import TowerSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


class HiddenStatesHost(Host):
    """A host whose connector reads the hidden states that `vision_feature_layer` in its configuration names."""

    def build_tower(self, spec: TowerSpec, config: Any) -> "nn.Module":
        """The donor, with its tokens as the only hidden state; the configuration of a graft says that the last one is read."""
        # here, because torch takes seconds to import
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        from mllm_adapters.modules.grafted_tower import GraftedTower

        return GraftedTower(spec, lambda tokens: BaseModelOutputWithPooling(hidden_states=(tokens,)))

    def encode(self, tower: "nn.Module", config: Any, inputs: "dict[str, Tensor]") -> "Tensor | None":
        """The hidden states that the connector reads, class token included, layer after layer: [B, layers, 1 + tokens, width]."""
        import torch

        states = tower(inputs["pixel_values"], output_hidden_states=True).hidden_states
        return torch.stack([states[layer] for layer in _layers(config)], dim=1)

    def replay(self, tower: "nn.Module", config: Any) -> "nn.Module":
        """A module that returns kept hidden states at their layers; the places of all other layers are empty."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        from mllm_adapters.modules.grafted_tower import Replay

        def hand_on(features: "Tensor") -> Any:
            states: list[Any] = [None] * (config.vision_config.num_hidden_layers + 1)
            for index, layer in enumerate(_layers(config)):
                states[layer] = features[:, index]
            return BaseModelOutputWithPooling(hidden_states=tuple(states))

        return Replay(hand_on)


def check_reading(config: Json) -> None:
    """Raise `HostError` unless a config.json names hidden states that its tower has, and a known way to take their tokens."""
    depth = config.get("vision_config", {}).get("num_hidden_layers")
    layers = config.get("vision_feature_layer", -2)
    for layer in layers if isinstance(layers, list) else [layers]:
        if depth is not None and not -depth - 1 <= layer <= depth:
            raise HostError(f"vision_feature_layer is {layer}, the tower has {depth} blocks")
    select = config.get("vision_feature_select_strategy", "default")
    if select not in ("default", "full"):
        raise HostError(f"vision_feature_select_strategy is {select!r:.40}, default and full are known")


def _layers(config: Any) -> list[int]:
    layer = config.vision_feature_layer
    return list(layer) if isinstance(layer, (list, tuple)) else [layer]
