"""Where a fresh connector starts: its last linear map fitted in closed form, so that an image looks like the words for it.

LLaVA aligns a new connector with captions before it is tuned on questions. For a linear map that stage has a solution: a ridge
regression from the map's inputs to the word embeddings of the caption. It takes seconds, has no learning rate, and is the same
for every tower that is compared.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.terms import HostError
from mllm_adapters.loading.lora import connector_parameters

#: Strengths among which leave-one-out errors choose, in units of the inputs' mean variance times the number of images.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def align_connector(loaded: LoadedHost, captions: Sequence[str], batches: Sequence[dict[str, Tensor]]) -> float:
    """Fit the connector's last linear layer, in place.

    A caption counts by the square root of the number of its images: else the most frequent one would be seen in every image.

    Args:
        loaded: the model whose connector is to be trained, in its trainable form.
        captions: what is true of each image, in words.
        batches: the images' inputs (`Images.batch`) in the same order.

    Returns:
        The share of the captions' variance that the fitted map explains on images left out.

    Raises:
        HostError: if the connector has no linear layer that could be fitted.
    """
    from sklearn.linear_model import RidgeCV

    layer = _last_linear(loaded)
    inputs = _inputs_of(layer, loaded, batches)
    targets = np.stack([_word_embedding(loaded, caption) for caption in captions])
    counts = Counter(captions)
    weights = np.array([counts[caption] ** -0.5 for caption in captions])
    weights *= len(weights) / weights.sum()
    scale = float(inputs.var(axis=0).mean()) * len(inputs)
    ridge = RidgeCV([strength * scale for strength in STRENGTHS]).fit(inputs, targets, sample_weight=weights)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(ridge.coef_))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(ridge.intercept_))
    variance = np.average((targets - np.average(targets, axis=0, weights=weights)) ** 2, axis=0, weights=weights).mean()
    return 1 + float(ridge.best_score_) / float(variance)


def _last_linear(loaded: LoadedHost) -> nn.Linear:
    trained = {id(parameter) for parameter in connector_parameters(loaded.model, loaded.host).values()}
    layers = [m for m in loaded.model.modules() if isinstance(m, nn.Linear) and id(m.weight) in trained]
    width = loaded.model.get_input_embeddings().embedding_dim
    if not layers or layers[-1].out_features != width:
        raise HostError(
            f"the connector of {loaded.host.title} does not end in a linear layer, so it cannot be aligned in closed form"
        )
    return layers[-1]


@torch.no_grad()
def _inputs_of(layer: nn.Linear, loaded: LoadedHost, batches: Sequence[dict[str, Tensor]]) -> np.ndarray:
    """Mean over the image tokens of what the layer is given: [images, inputs]."""
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _module, arguments, _output: seen.append(arguments[0].detach()))
    model: Any = loaded.model
    see = getattr(model, "get_image_features", None) or model.model.get_image_features  # Janus has it one level down
    for inputs in batches:
        see(**inputs)
    hook.remove()
    found = [states.flatten(1, -2).mean(dim=1) if states.dim() > 2 else states for states in seen]
    return torch.cat(found).float().cpu().numpy()


def _word_embedding(loaded: LoadedHost, caption: str) -> np.ndarray:
    """The caption's tokens as one vector, as long as a single token's."""
    ids = loaded.processor.tokenizer(caption, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    table = loaded.model.get_input_embeddings().weight
    vector: np.ndarray = (table[ids.to(table.device)].detach().float().sum(0) / len(ids) ** 0.5).cpu().numpy()
    return vector
