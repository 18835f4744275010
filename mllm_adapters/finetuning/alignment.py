"""Closed-form alignment of a new connector: its last linear layer is fitted so that image tokens resemble the caption's words.

LLaVA aligns a new connector with captions before it is tuned on questions. For one linear layer this stage has an exact solution: a
ridge regression from the layer's inputs to the word embeddings of the caption. It takes seconds, has no learning rate, and treats
all towers of a comparison alike.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.terms import HostError
from mllm_adapters.loading.lora import connector_parameters
from mllm_adapters.prompting.token_rows import token_rows

#: Strengths of the ridge, chosen by leave-one-out error; in units of the inputs' mean variance times the number of images.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def align_connector(loaded: LoadedHost, captions: Sequence[str], batches: Sequence[dict[str, Tensor]]) -> float:
    """Fit the connector's last linear layer, in place.

    A caption's weight grows with the square root of the number of its images, because otherwise the map would give every image the
    most frequent caption.

    Args:
        loaded: the model, its connector trainable (`mllm_adapters.loading.lora.add_lora`).
        captions: what is true of each image, in words.
        batches: model inputs of the images in the order of `captions`, each a batch of `mllm_adapters.finetuning.batches.Images`.

    Returns:
        The share of the captions' variance that the fitted map explains on images left out.

    Raises:
        FormatError: if a token of a caption has no row in the embeddings.
        HostError: if the connector has no linear layer that could be fitted.
    """
    # here, because scikit-learn takes a moment to import
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
        raise _no_closed_form(loaded, "does not end in a linear layer")
    return layers[-1]


def _no_closed_form(loaded: LoadedHost, why: str) -> HostError:
    return HostError(
        f"the connector of {loaded.host.title} {why}, so it cannot be aligned in closed form; --align-epochs N with --captions"
        " trains it on captions instead"
    )


@torch.no_grad()
def _inputs_of(layer: nn.Linear, loaded: LoadedHost, batches: Sequence[dict[str, Tensor]]) -> np.ndarray:
    """Inputs of the layer, averaged over the tokens of each image: [images, inputs]."""
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _module, arguments, _output: seen.append(arguments[0].detach()))
    model: Any = loaded.model
    # Janus has it one level down
    see = getattr(model, "get_image_features", None) or getattr(
        getattr(model, "model", None), "get_image_features", None
    )
    if see is None or not _takes(see, batches[0]):
        raise _no_closed_form(loaded, "reads more than the image")
    for inputs in batches:
        see(**inputs)
    hook.remove()
    if not seen:
        raise _no_closed_form(loaded, "reads more than the image")
    found = [states.flatten(1, -2).mean(dim=1) if states.dim() > 2 else states for states in seen]
    return torch.cat(found).float().cpu().numpy()


def _takes(function: Callable[..., Any], arguments: dict[str, Tensor]) -> bool:
    try:
        signature(function).bind(**arguments)
    except TypeError:
        return False
    return True


def _word_embedding(loaded: LoadedHost, caption: str) -> np.ndarray:
    """Sum of the embeddings of a caption's tokens, divided by the square root of their number: [width]."""
    ids = loaded.processor.tokenizer(caption, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    token_rows(loaded).check({"input_ids": ids.tolist()})
    table = loaded.model.get_input_embeddings().weight
    vector: np.ndarray = (table[ids.to(table.device)].detach().float().sum(0) / len(ids) ** 0.5).cpu().numpy()
    return vector
