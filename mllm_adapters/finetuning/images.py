"""Image inputs of a model; where the tower is frozen and there is room, its outputs stand in the place of pixels."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mgll.training.distributed import to_device
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.finetuning.feature_store import DiskStore, FeatureStore, MemoryStore, Size
from mllm_adapters.finetuning.texts import Texts
from mllm_adapters.modules.grafted_tower import BridgedReplay, without_bridge
from mllm_adapters.modules.image_processor import square_rule
from mllm_adapters.settings import FinetuneSettings


class Preparation:
    """What a host's processor makes of an image; it knows no model, so that worker processes can do it.

    Args:
        loaded: the model whose processor is used.
        texts: makes the text inputs.

    Attributes:
        rule: the rule by which it makes the same square of every image; None where sizes or tiles follow the image.
    """

    def __init__(self, loaded: LoadedHost, texts: Texts) -> None:
        self.texts = texts
        self._host, self._processor = loaded.host, loaded.processor
        self.rule = square_rule(loaded.processor.image_processor)
        self._dtype = next(loaded.model.get_submodule(loaded.host.tower).parameters()).dtype

    def pixels(self, image: Image.Image) -> dict[str, Tensor]:
        """`pixel_values` and others that the host's image processor makes, for a batch of one."""
        # the whole processor, not its image processor alone: some pass options on to it (InternVL's tiles)
        encoded: Any = self._processor(images=[image], text=[self._host.prompt("")], return_tensors="pt")
        names = self._processor.image_processor.model_input_names
        found = {name: encoded[name] for name in names if name in encoded}
        return {name: value.to(self._dtype) if value.is_floating_point() else value for name, value in found.items()}


class Images:
    """Image inputs of batches on the model's device.

    Where the tower is frozen and its outputs can be kept, a replay replaces the tower in the model until `close`, and every image
    goes through the real tower once, alone, so that its features do not depend on the other images of a batch.

    Args:
        loaded: the model, before it is given to a launcher's form of parallelism.
        device: where batches, and a tower of which features are kept, go.
        example: the inputs of any image, which tell how large features are.
        distinct: number of different views of images.
        settings: whether the tower is frozen, and where features may be kept.
        writers: number of processes that keep features in the same folder.
    """

    def __init__(
        self,
        loaded: LoadedHost,
        device: torch.device,
        example: Mapping[str, Tensor],
        distinct: int,
        settings: FinetuneSettings,
        writers: int = 1,
    ) -> None:
        self._host, self._model = loaded.host, loaded.model
        self._tower = self._model.get_submodule(self._host.tower)
        self._device = next(self._tower.parameters()).device
        self._settle(loaded, device, example, distinct, settings, writers)
        self._device = device
        if self.store is not None:
            self._tower.to(device)

    def _settle(
        self,
        loaded: LoadedHost,
        device: torch.device,
        example: Mapping[str, Tensor],
        distinct: int,
        settings: FinetuneSettings,
        writers: int,
    ) -> None:
        """Decide whether features are kept and where, and if so put a replay into the model."""
        self.store: FeatureStore | None = None
        repeats = settings.tower == "frozen" and (not settings.augments or settings.views is not None)
        encoded = self._encoded(example) if repeats else None
        if encoded is None:
            return
        if settings.feature_cache:
            folder = Path(settings.feature_cache) / _decides_features(loaded, settings, device)
            self.store = DiskStore(folder, settings.feature_cache_gib * 2**30, writers)
        elif sum(value.nbytes for value in encoded.values()) * distinct <= settings.image_cache_gib * 2**30:
            self.store = MemoryStore()
        if self.store is not None:
            replay, bridge = self._host.replay(self._tower, self._model.config), getattr(self._tower, "bridge", None)
            self._model.set_submodule(self._host.tower, replay if bridge is None else BridgedReplay(bridge, replay))

    def size(self, key: str) -> Size | None:
        """Width and height of an image whose features are kept, else None."""
        return self.store.size(key) if self.store else None

    def batch(
        self, rows: Sequence[tuple[str, dict[str, Tensor] | None, Size]], device: torch.device | None = None
    ) -> dict[str, Tensor]:
        """Image inputs of a batch.

        Args:
            rows: for each image the key of its view; its pixels, or None where features are kept; its size.
            device: where they go, if not where the tower is.
        """
        found = [self._of(*row) for row in rows]
        return {
            name: to_device(torch.cat([inputs[name] for inputs in found]), device or self._device) for name in found[0]
        }

    def close(self) -> None:
        """Put the real tower back into the model."""
        self._model.set_submodule(self._host.tower, self._tower)

    def _of(self, key: str, pixels: dict[str, Tensor] | None, size: Size) -> dict[str, Tensor]:
        if self.store is not None and self.store.size(key):
            return self.store.get(key)
        if pixels is None:
            raise KeyError(f"no features are kept of {key}")
        encoded = self._encoded(pixels) if self.store is not None else None
        if encoded is None or self.store is None:
            return pixels
        self.store.put(key, encoded, size)
        return encoded

    @torch.no_grad()
    def _encoded(self, pixels: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """The inputs with the tower's output in the place of pixels; None where the host keeps none of it."""
        moved = {key: value.to(self._device) for key, value in pixels.items()}
        mode = self._tower.training
        self._tower.eval()
        with without_bridge(self._tower):
            features = self._host.encode(self._tower, self._model.config, moved)
        self._tower.train(mode)
        return None if features is None else dict(pixels) | {"pixel_values": features.cpu()}


def _decides_features(loaded: LoadedHost, settings: FinetuneSettings, device: torch.device) -> str:
    """A hash over all that decides what a tower makes of an image, but for the image and the number of its view.

    Weights of the tower, the host's way of reading it (layer, policy), preprocessing, precision, and augmentation.
    """
    tower = loaded.model.get_submodule(loaded.host.tower)
    digest = hashlib.sha256()
    for name, tensor in sorted(tower.state_dict().items()):
        if not name.startswith("bridge."):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    looks = [settings.crop_scale, settings.flip, settings.colour_jitter, settings.views, settings.seed]
    described = {
        "host": loaded.host.name,
        "config": loaded.model.config.to_dict(),
        "spec": spec.model_dump() if (spec := getattr(tower, "spec", None)) is not None else None,
        "processor": loaded.processor.image_processor.to_dict(),
        "looks": looks if settings.augments else None,
        "device": device.type,
    }
    if settings.decode == "draft":  # `exact` says nothing, as in stores from before there was a choice
        described["decode"] = settings.decode
    digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    return f"{loaded.host.name}-{digest.hexdigest()[:16]}"
