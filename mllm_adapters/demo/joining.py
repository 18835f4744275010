"""A LLaVA of a vision tower and a language model that never met, with a new connector between them."""

from typing import Any, Literal

import torch
from torch import nn
from transformers import LlavaConfig, LlavaForConditionalGeneration


def joined(
    tower: Any, words: Any, image_token: int, features: int, layer: int, select: Literal["default", "full"], seed: int
) -> LlavaForConditionalGeneration:
    """Put the two into one model; the same arguments give the same weights.

    Args:
        tower: the vision model.
        words: a causal language model with a row for every token, the image's among them.
        image_token: the image's token.
        features: number of vectors that an image becomes.
        layer: the tower's hidden state that the connector reads; -1 is the last.
        select: `default` drops the class token, `full` hands on all tokens.
        seed: seed of the connector's weights.
    """
    config = LlavaConfig(
        vision_config=tower.config.to_dict(),
        text_config=words.config.to_dict() | {"tie_word_embeddings": False},
        image_token_index=image_token,
        image_seq_length=features,
        vision_feature_layer=layer,
        vision_feature_select_strategy=select,
        tie_word_embeddings=False,
        **{name: getattr(words.config, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = LlavaForConditionalGeneration(config)
        new_connector(model.model.multi_modal_projector)
    model.model.vision_tower.load_state_dict(tower.state_dict(), strict=True)
    model.model.language_model.load_state_dict(words.model.state_dict(), strict=True)
    model.lm_head.load_state_dict(words.lm_head.state_dict(), strict=True)
    return model


def new_connector(connector: nn.Module) -> None:
    """Initialise the connector's linear layers anew, in place, from torch's current random state.

    The initialisation is that of `torch.nn.Linear`, not that of LLaMA: with LLaMA's standard deviation of 0.02 the connector's
    output is much smaller than word embeddings, and a short training does not make up for that.
    """
    for layer in connector.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
