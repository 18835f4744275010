"""What is trained: a tower and a text encoder, each with a projection into the shared space, and the objective."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from mgll.encoders.last_layers import train_last
from mgll.encoders.text import EMBEDDED, TextEncoder, embedded_text_encoder
from mgll.files import content_sha256
from mgll.objective import Level, Objective
from mgll.settings import PretrainSettings
from mgll.tower.model import check_pooling, freeze_unused, image_feature, measure
from mgll.tower.text_side import TextFacts, TextSide
from mgll.training.distributed import gather_features, gather_flags
from mgll.training.texts import TextBatch


class ContrastiveModel(nn.Module):
    """A tower, a text encoder and two linear projections into the shared space, and the objective over the global batch.

    A frozen text encoder is no part of the model: its features are computed before training and are the model's input.

    Raises:
        ValueError: for a tower that does not take images of `image_size` or has no output for `pooling`, or for a model with
            batch norms together with `chunk`, or with fewer layers than `image_training` says.
    """

    def __init__(self, tower: PreTrainedModel, text_encoder: TextEncoder, settings: PretrainSettings) -> None:
        super().__init__()
        geometry = measure(tower, settings.image_size)
        check_pooling(tower, geometry, settings.pooling)
        freeze_unused(tower, settings.image_size, settings.pooling)
        if settings.image_training != "full":
            train_last(tower, settings.image_training, "image_training")
        self.tower, self.pooling = tower, settings.pooling
        self.text_encoder = nn.Identity() if text_encoder.frozen else text_encoder
        self.image_projection = nn.Linear(geometry.width, settings.feature_width, bias=False)
        self.text_projection = nn.Linear(text_encoder.width, settings.feature_width, bias=False)
        self.objective = Objective(settings.resolved_objective)
        self.chunk = settings.chunk
        if self.chunk and any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.modules()):
            raise ValueError("the tower's batch norms need the whole batch at once; leave `chunk` out")
        if settings.compile:
            compile_encoder(tower)
            if not text_encoder.frozen:
                compile_encoder(text_encoder.model, varies=True)
        if settings.gradient_checkpointing:
            keep_layer_inputs_only(tower)
            if not text_encoder.frozen:
                keep_layer_inputs_only(text_encoder.model)

    def forward(self, pixels: Tensor, readable: Tensor, texts: TextBatch) -> dict[str, Tensor]:
        """The loss and its terms over the global batch, as scalars by name. Collective: all processes must call it.

        Args:
            pixels: this process's images [n, 3, size, size].
            readable: whether each of these images could be read [n].
            texts: texts of the global batch, the same in every process; incidences are [N, U_level], N = n * processes.
        """
        images, keep = gather_features(self._by_chunks(self.encode_images, pixels)), gather_flags(readable)
        return self.compare(images, keep, self.encode_all_texts(texts), texts)

    def compare(self, images: Tensor, keep: Tensor, features: Tensor, texts: TextBatch) -> dict[str, Tensor]:
        """The loss and its terms, as scalars by name, from the features of the global batch.

        They are computed in float32 even if the encoders run in a lower precision. An image that is not kept loses its
        texts, which takes it out of every term. All images of a batch may be dropped; the loss is then 0.

        Args:
            images: image features [N, feature width], L2-normalised.
            keep: whether each image takes part [N].
            features: features of the unique texts [U, feature width], L2-normalised.
            texts: which of these texts each level has, and which images carry them.
        """
        device = images.device.type
        with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
            levels = {
                name: Level(features[columns], texts.incidences[name] * keep.unsqueeze(1))
                for name, columns in texts.columns.items()
            }
            return self.objective(images, levels, texts.groups)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Image features [n, feature width], L2-normalised, of pixels [n, 3, size, size]."""
        return _unit(self.image_projection(image_feature(self.tower, pixels, self.pooling)))

    def encode_texts(self, *inputs: Tensor) -> Tensor:
        """Text features [U, feature width], L2-normalised.

        Args:
            inputs: token ids and mask, each [U, L]; or, if the text encoder is frozen, its features [U, width].
        """
        return _unit(self.text_projection(self.text_encoder(*inputs)))

    def encode_all_texts(self, texts: TextBatch) -> Tensor:
        """Text features of the whole global batch [U, feature width], L2-normalised.

        Every process encodes its own share of the texts, so that each text is encoded by one process only. Collective: all
        processes must call it.
        """
        return gather_features(self._by_chunks(self.encode_texts, *texts.inputs))[: texts.unique]

    def _by_chunks(self, encode: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """The features of all inputs, while only the activations of one chunk are held in memory.

        The loss needs the features alone. Therefore every chunk is encoded without keeping its activations, and encoded again
        when its part of the gradient is due (as GradCache does). The gradient equals that of the whole batch; the price is
        one more forward pass.
        """
        if self.chunk is None or len(inputs[0]) <= self.chunk:
            return encode(*inputs)
        chunks = zip(*(tensor.split(self.chunk) for tensor in inputs), strict=True)
        return torch.cat([torch.as_tensor(checkpoint(encode, *own, use_reentrant=False)) for own in chunks])


def _unit(features: Tensor) -> Tensor:
    """L2-normalise each row of features [n, width]; a precision below float32, as autocast gives it, becomes float32."""
    return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=1)


def text_side_of(
    model: ContrastiveModel, encoder: TextEncoder, settings: PretrainSettings, levels: Iterable[str]
) -> TextSide:
    """What of a trained model the tower file takes along, so that texts can be compared with images without the run's folder.

    Args:
        model: the trained model.
        encoder: its text encoder, which may be frozen.
        settings: the run's.
        levels: granularities that it was trained against.
    """
    folder = embedded_text_encoder() if settings.text_encoder == EMBEDDED else Path(settings.text_encoder)
    facts = TextFacts(
        encoder=settings.text_encoder,
        sha256=content_sha256(folder) if folder.is_dir() else None,
        commit=getattr(encoder.model.config, "_commit_hash", None),
        pooling=encoder.pooling,
        width=encoder.width,
        feature_width=settings.feature_width,
        temperature=1 / model.objective.logit_scale().item(),
        bias=model.objective.bias.item(),
        levels=tuple(levels),
    )
    changed = {name: weight.detach() for name, weight in encoder.model.named_parameters() if weight.requires_grad}
    image, text = (side.weight.detach().float() for side in (model.image_projection, model.text_projection))
    return TextSide(facts, image, text, encoder=changed)


def compile_encoder(model: PreTrainedModel, varies: bool = False) -> None:
    """Let torch compile an encoder when it is first called; names and values of its weights stay as they are.

    Args:
        model: the encoder.
        varies: whether its inputs have another size in each step, as texts do.
    """
    model.compile(dynamic=True if varies else None)


def keep_layer_inputs_only(model: PreTrainedModel) -> None:
    """Switch gradient checkpointing on: layers keep only their inputs and compute their activations again for the gradient."""
    trunk = getattr(model, "timm_model", None)
    if trunk is not None:
        trunk.set_grad_checkpointing()
    else:
        model.activation_checkpointing_enable({"use_reentrant": False})
