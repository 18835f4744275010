"""The donor inside a host whose own class cannot hold it: renormalised pixels in, tokens under the token policy out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mgll.tower.model import build_model, hidden_state, image_feature, normed
from mllm_adapters.contract.token_policy import resize_grid
from mllm_adapters.contract.tower_spec import TowerSpec


class GraftedTower(nn.Module):
    """Stands where the host's tower stood. Its weights are the donor's, named `donor.*` and the tower file's name.

    In a warm graft a linear layer, `bridge.*`, takes the tokens to the width of the tower that went.

    Args:
        spec: how to run the donor.
        hand_on: from tokens [B, spec.count, spec.width] to the output object that the host's code reads.
    """

    def __init__(self, spec: TowerSpec, hand_on: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.spec, self._hand_on = spec, hand_on
        self.donor = build_model(spec.config)
        self.bridge = nn.Linear(spec.donor_width, spec.bridge) if spec.bridge else None

    def train(self, mode: bool = True) -> "GraftedTower":
        """The donor stays as it is when it is used: frozen, without dropout, and its batch norms do not learn."""
        super().train(mode)
        self.donor.eval()
        return self

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        """What the host's code expects of its own tower, for pixels [B, 3, H, W]."""
        return self._hand_on(self.features(pixel_values))

    def features(self, pixels: Tensor) -> Tensor:
        """Tokens [B, spec.count, spec.width] of pixels [B, 3, H, W] of any size, normalised as the host does it."""
        tokens = self._tokens(pixels)
        return tokens if self.bridge is None else self.bridge(tokens)

    def _tokens(self, pixels: Tensor) -> Tensor:
        spec, dtype = self.spec, pixels.dtype
        pixels = pixels.float()  # half precision would coarsen the pixels, and CPUs cannot resize in it
        if spec.scale is not None and spec.shift is not None:
            scale, shift = (pixels.new_tensor(values).view(3, 1, 1) for values in (spec.scale, spec.shift))
            pixels = pixels * scale + shift
        if pixels.shape[-2:] != (spec.size, spec.size):
            pixels = nn.functional.interpolate(
                pixels, (spec.size, spec.size), mode="bicubic", antialias=True, align_corners=False
            )
        pixels = pixels.to(dtype)
        if spec.tokens == "pooled":
            return image_feature(self.donor, pixels, spec.pooling)[:, None]
        state = hidden_state(self.donor, pixels, spec.layer)
        if spec.post_norm:
            state = normed(self.donor, state)
        patches = state[:, spec.geometry.prefix :]
        if patches.shape[1] != spec.grid**2:
            patches = resize_grid(patches, spec.grid)
        return torch.cat((state[:, :1], patches), dim=1) if spec.class_token else patches


class Replay(nn.Module):
    """Stands where the frozen tower stood and hands on features that it made earlier.

    Args:
        hand_on: from those features to the output object that the host's code reads.
    """

    def __init__(self, hand_on: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self._hand_on = hand_on

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        """The output for features that come in the place of pixels."""
        return self._hand_on(pixel_values)


class BridgedReplay(nn.Module):
    """The same for a warm graft, whose bridge is trained and therefore stays: the features are those before it.

    Args:
        bridge: the graft's.
        replay: what hands on the features behind it.
    """

    def __init__(self, bridge: nn.Module, replay: nn.Module) -> None:
        super().__init__()
        self.bridge, self._replay = bridge, replay

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        """The output for features before the bridge that come in the place of pixels."""
        return self._replay(self.bridge(pixel_values))


@contextmanager
def without_bridge(tower: Any) -> Iterator[None]:
    """For the time being a tower hands on what lies before its bridge; one that has none stays as it is."""
    bridge = getattr(tower, "bridge", None)
    if bridge is not None:
        tower.bridge = None
    try:
        yield
    finally:
        if bridge is not None:
            tower.bridge = bridge
