"""A tiny Qwen2-VL of real classes, random weights."""

from pathlib import Path
from typing import Any

import torch
from tiny_tokenizer import byte_tokenizer
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

PATCH, MERGE = 8, 2
VISION = {"depth": 2, "num_heads": 2, "patch_size": PATCH, "spatial_merge_size": MERGE}


def save_qwen2_vl(directory: Path) -> None:
    """Tower 16 wide, images of 16 to 48 px as they come, language model 32 wide."""
    tokenizer = tokenizer_with_places()
    vision = VISION | {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}
    config = Qwen2VLConfig(vision_config=vision, text_config=text_config(tokenizer), **places(tokenizer))
    save(Qwen2VLForConditionalGeneration, config, directory)
    parts = (image_processor(), tokenizer, Qwen2VLVideoProcessor())  # no videos here, but the class insists
    Qwen2VLProcessor(*parts).save_pretrained(directory)


def tokenizer_with_places() -> PreTrainedTokenizerFast:
    """With the four tokens that an image or a video needs."""
    names = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    return byte_tokenizer(**names, vision_start_token="<|vision_start|>", vision_end_token="<|vision_end|>")


def places(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """Their ids, as the configuration calls them."""
    names = ("image", "video", "vision_start", "vision_end")
    found = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(getattr(tokenizer, f"{name}_token")) for name in names}
    return {**found, "tie_word_embeddings": False}


def text_config(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """A decoder whose heads of 16 give 4, 2 and 2 pairs to time, row and column."""
    return {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]},
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def image_processor() -> Qwen2VLImageProcessor:
    """Keeps the shape of an image: more pixels, more tokens."""
    size = {"shortest_edge": 16 * 16, "longest_edge": 48 * 48}
    return Qwen2VLImageProcessor(size=size, patch_size=PATCH, merge_size=MERGE)


def save(model_class: Any, config: Any, directory: Path) -> None:
    """A model whose every tensor is telling: biases and norms start at 0 and 1."""
    torch.manual_seed(0)
    model = model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(directory, max_shard_size="40KB")
