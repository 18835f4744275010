"""Grafts that transformers' own class can hold after all: the donor in the host's configuration, under the class's own names."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from mgll.weights.unbuildable import UNBUILDABLE
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.tower_spec import TowerSpec
from mllm_adapters.loading.classes import model_class

#: Largest difference between features of an image, in units of the largest of them, at which two towers are the same.
SAME = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
#: What a configuration says of the tower and of how it is read, and what a processor has to know of it.
NAMES = ("vision_config", "vision_feature_layer", "vision_feature_select_strategy")
COUNTS = ("num_additional_image_tokens", "vision_feature_select_strategy")


def make_stock(loaded: LoadedHost, spec: TowerSpec) -> bool:
    """Turn a graft that runs its donor by `spec` into an instance of the host's stock class, in place, where that can hold it.

    It can where the family's own processor reads another tower (`Host.stock_towers`), its configuration names the donor, and tokens
    that are read by that configuration are those of the graft, which is tried on an image. Otherwise nothing changes.
    """
    model, processor, name = loaded.model, loaded.processor, loaded.host.tower
    reading = _reading(spec)
    can_say = all(hasattr(model.config, key) for key in NAMES) and all(hasattr(processor, key) for key in COUNTS)
    if not loaded.host.stock_towers or reading is None or ":" in loaded.host.model_class or not can_say:
        return False
    stock, grafted = model_class(loaded.host), model.get_submodule(name)
    told = dict(zip(NAMES, (grafted.donor.config, *reading), strict=True))
    if not _builds(stock, _changed(deepcopy(model.config), told), name, grafted.donor):
        return False
    before, old = _features(model, spec), {key: getattr(model.config, key) for key in NAMES}
    _changed(model.config, told)
    model.set_submodule(name, grafted.donor)
    after = _features(model, spec)
    if before.shape != after.shape or (before - after).abs().max() > SAME[before.dtype] * before.abs().max():
        _changed(model.config, old)
        model.set_submodule(name, grafted)
        return False
    model.__class__ = stock
    # the processor counts a class token that is dropped again
    dropped, did_drop = reading[1] == "default", processor.vision_feature_select_strategy == "default"
    processor.num_additional_image_tokens += dropped - did_drop
    processor.vision_feature_select_strategy = reading[1]
    return True


def _changed(config: Any, values: Mapping[str, Any]) -> Any:
    for key, value in values.items():
        setattr(config, key, value)
    return config


def _reading(spec: TowerSpec) -> tuple[int, str] | None:
    """Layer and strategy by which a configuration reads the tokens that a graft hands on; None where none does."""
    prefix = spec.geometry.prefix
    plain = spec.tokens in ("native", "resize_posemb") and spec.grid == spec.geometry.grid
    if not plain or spec.bridge or spec.scale or spec.post_norm or prefix > 1 or spec.geometry.depth == 1:
        return None
    return spec.layer, "default" if prefix and not spec.class_token else "full"


def _builds(stock: Any, config: Any, name: str, donor: nn.Module) -> bool:
    """Whether the stock class builds a tower like the donor of this configuration, once that was written to a file and read."""
    try:
        with torch.device("meta"):
            tower = stock(type(config).from_dict(config.to_dict())).get_submodule(name)
    except UNBUILDABLE:
        return False
    return type(tower) is type(donor) and _shapes(tower) == _shapes(donor)


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


@torch.no_grad()
def _features(model: Any, spec: TowerSpec) -> Tensor:
    """What the language model is given for an image of noise: [tokens, width]."""
    size, generator = spec.size, torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, size, size, generator=generator).to(model.device, model.dtype)
    found = model.get_image_features(pixel_values=pixels).pooler_output
    return found[0] if isinstance(found, list | tuple) else found.flatten(0, -2)
