"""What is trained: a tower and a text encoder, each with a projection into the shared space, and the objective."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from mgll.encoders.text import TextEncoder
from mgll.objective import Level, Objective
from mgll.settings import PretrainSettings
from mgll.tower.model import check_pooling, freeze_unused, image_feature, measure
from mgll.training.distributed import gather_features, gather_flags, own_share
from mgll.training.texts import TextBatch


class ContrastiveModel(nn.Module):
    """A tower, a text encoder and two linear projections into the shared space, and the objective over the global batch.

    A frozen text encoder is not part of it: its features are what comes in.

    Raises:
        ValueError: for a tower that has not what the settings ask for, or whose batch norms would see chunks.
    """

    def __init__(self, tower: PreTrainedModel, text_encoder: TextEncoder, settings: PretrainSettings) -> None:
        super().__init__()
        geometry = measure(tower, settings.image_size)
        check_pooling(tower, geometry, settings.pooling)
        freeze_unused(tower, settings.image_size, settings.pooling)
        self.tower, self.pooling = tower, settings.pooling
        self.text_encoder = nn.Identity() if text_encoder.frozen else text_encoder
        self.image_projection = nn.Linear(geometry.width, settings.feature_width, bias=False)
        self.text_projection = nn.Linear(text_encoder.width, settings.feature_width, bias=False)
        self.objective = Objective(settings.resolved_objective)
        self.chunk = settings.chunk
        if self.chunk and any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.modules()):
            raise ValueError("the tower's batch norms need the whole batch at once; leave `chunk` out")
        if settings.gradient_checkpointing:
            keep_layer_inputs_only(tower)
            if not text_encoder.frozen:
                keep_layer_inputs_only(text_encoder.model)

    def forward(self, pixels: Tensor, readable: Tensor, texts: TextBatch) -> dict[str, Tensor]:
        """The terms of the global batch.

        Args:
            pixels: this process's images [n, 3, size, size].
            readable: which of them could be read [n].
            texts: of the global batch, the same in every process; incidences are [N, U_level], N = n * processes.
        """
        images, keep = gather_features(self._by_chunks(self.encode_images, pixels)), gather_flags(readable)
        return self.compare(images, keep, self.encode_all_texts(texts), texts)

    def compare(self, images: Tensor, keep: Tensor, features: Tensor, texts: TextBatch) -> dict[str, Tensor]:
        """The terms, from the features of the global batch: images [N, width] of which some are kept [N], texts [U, width].

        In float32 also where the encoders are not. An image that is not kept loses its texts, which takes it out of
        every term; perhaps all are.
        """
        device = images.device.type
        with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
            levels = {
                name: Level(features[columns], texts.incidences[name] * keep.unsqueeze(1))
                for name, columns in texts.columns.items()
            }
            return self.objective(images, levels, texts.groups)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Features [n, feature width], L2-normalised."""
        return _unit(self.image_projection(image_feature(self.tower, pixels, self.pooling)))

    def encode_texts(self, *inputs: Tensor) -> Tensor:
        """The same of what the text encoder takes."""
        return _unit(self.text_projection(self.text_encoder(*inputs)))

    def encode_all_texts(self, texts: TextBatch) -> Tensor:
        """Features of the unique texts [U, feature width]: every process encodes its share of them, each text once in all."""
        local = self._by_chunks(self.encode_texts, *map(own_share, texts.inputs))
        return gather_features(local)[: len(texts.inputs[0])]

    def _by_chunks(self, encode: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """The features of all inputs, with the activations of one chunk at a time.

        The loss needs features alone. So every chunk is encoded without keeping activations, and once more when its part of the
        gradient is due (as GradCache does): the gradient is that of the whole batch for the price of one more forward pass.
        """
        if self.chunk is None or len(inputs[0]) <= self.chunk:
            return encode(*inputs)
        chunks = zip(*(tensor.split(self.chunk) for tensor in inputs), strict=True)
        return torch.cat([torch.as_tensor(checkpoint(encode, *own, use_reentrant=False)) for own in chunks])


def _unit(features: Tensor) -> Tensor:
    """Features L2-normalised, in float32 where autocast gave less."""
    return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=1)


def keep_layer_inputs_only(model: PreTrainedModel) -> None:
    """Let every layer compute its activations again for the gradient."""
    trunk = getattr(model, "timm_model", None)
    if trunk is not None:
        trunk.set_grad_checkpointing()
    else:
        model.activation_checkpointing_enable({"use_reentrant": False})
