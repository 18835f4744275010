"""The donor inside a host whose own class cannot hold it: renormalised pixels in, tokens under the token policy out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mgll.tower.model import build_model, hidden_states, image_feature, normed
from mllm_adapters.contract.token_policy import resize_grid
from mllm_adapters.contract.tower_spec import TowerSpec


class GraftedTower(nn.Module):
    """The module in the place of the host's tower. The donor's tensors are named `donor.` and their name in the tower file.

    In a warm graft a linear layer, `bridge.*`, maps the tokens to the width of the tower that was replaced.

    Args:
        spec: how to run the donor.
        hand_on: turns tokens [B, spec.count, spec.width] into the output object that the host's code reads.
    """

    def __init__(self, spec: TowerSpec, hand_on: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.spec, self._hand_on = spec, hand_on
        self.donor = build_model(spec.config)
        self.bridge = nn.Linear(spec.donor_width, spec.bridge) if spec.bridge else None

    def train(self, mode: bool = True) -> "GraftedTower":
        """Set the mode of everything except the donor, which stays frozen, without dropout and with fixed batch norms."""
        super().train(mode)
        self.donor.eval()
        return self

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        """The output object that the host's code expects of its own tower, for pixels [B, 3, H, W]."""
        return self._hand_on(self.features(pixel_values))

    def features(self, pixels: Tensor) -> Tensor:
        """Tokens [B, spec.count, spec.width] of pixels [B, 3, H, W] of any size, normalised as the host does it."""
        tokens = self._tokens(pixels)
        return tokens if self.bridge is None else self.bridge(tokens)

    def _tokens(self, pixels: Tensor) -> Tensor:
        if self.spec.tokens == "pooled":
            return image_feature(self.donor, self.prepared(pixels), self.spec.pooling)[:, None]
        return self.states(pixels, [self.spec.layer])[0]

    def states(self, pixels: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Tokens [B, spec.count, spec.donor_width] behind each of these blocks of the donor, none of them pooled."""
        return [
            self._on_grid(state, layer)
            for state, layer in zip(hidden_states(self.donor, self.prepared(pixels), layers), layers, strict=True)
        ]

    def prepared(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, spec.size, spec.size] as the donor was trained, of those that arrive."""
        spec, dtype = self.spec, pixels.dtype
        pixels = pixels.float()  # half precision would coarsen the pixels, and CPUs cannot resize in it
        if spec.scale is not None and spec.shift is not None:
            scale, shift = (pixels.new_tensor(values).view(3, 1, 1) for values in (spec.scale, spec.shift))
            pixels = pixels * scale + shift
        if pixels.shape[-2:] != (spec.size, spec.size):
            pixels = nn.functional.interpolate(
                pixels, (spec.size, spec.size), mode="bicubic", antialias=True, align_corners=False
            )
        return pixels.to(dtype)

    def _on_grid(self, state: Tensor, layer: int) -> Tensor:
        spec = self.spec
        if spec.post_norm and layer == spec.layer:
            state = normed(self.donor, state)
        patches = state[:, spec.geometry.prefix :]
        if patches.shape[1] != spec.grid**2:
            patches = resize_grid(patches, spec.grid)
        return torch.cat((state[:, :1], patches), dim=1) if spec.class_token else patches


class Replay(nn.Module):
    """The module in the place of a frozen tower; it returns features that the tower made earlier.

    Args:
        hand_on: turns those features into the output object that the host's code reads.
    """

    def __init__(self, hand_on: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self._hand_on = hand_on

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        """The output object for features that come in the place of pixels."""
        return self._hand_on(pixel_values)


class BridgedReplay(nn.Module):
    """The module in the place of a warm graft's tower: the bridge is trained and stays, the features before it are kept ones.

    Args:
        bridge: the bridge of the graft.
        replay: the module that turns features behind the bridge into the output object.
    """

    def __init__(self, bridge: nn.Module, replay: nn.Module) -> None:
        super().__init__()
        self.bridge, self._replay = bridge, replay

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        """The output object for features before the bridge that come in the place of pixels."""
        return self._replay(self.bridge(pixel_values))


@contextmanager
def without_bridge(tower: Any) -> Iterator[None]:
    """Let a tower return the tokens before its bridge while the block runs; a tower without a bridge stays as it is."""
    bridge = getattr(tower, "bridge", None)
    if bridge is not None:
        tower.bridge = None
    try:
        yield
    finally:
        if bridge is not None:
            tower.bridge = bridge
