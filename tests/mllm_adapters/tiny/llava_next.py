"""A tiny LLaVA-NeXT of real classes, random weights."""

from pathlib import Path
from typing import Any

import torch
from tiny_tokenizer import byte_tokenizer
from transformers import (
    CLIPVisionConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    MistralConfig,
)

SIZE, PATCH = 32, 8
TILES = [[SIZE, 2 * SIZE], [2 * SIZE, SIZE], [2 * SIZE, 2 * SIZE]]
BLOCKS = {"num_hidden_layers": 2, "num_attention_heads": 2}
TOWER = {"hidden_size": 16, "intermediate_size": 32, "image_size": SIZE, "patch_size": PATCH, **BLOCKS}
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_key_value_heads": 1, **BLOCKS}
IMAGES: dict[str, Any] = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}


def save_llava_next(directory: Path) -> None:
    """Tower 16 wide with a 4 x 4 grid on the image and two or four tiles; language model 32 wide."""
    tokenizer = byte_tokenizer()
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**TOWER),
        text_config=MistralConfig(**TEXT, vocab_size=len(tokenizer), head_dim=16),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=TILES,
    )
    torch.manual_seed(0)
    LlavaNextForConditionalGeneration(config).save_pretrained(directory, max_shard_size="40KB")
    LlavaNextProcessor(
        LlavaNextImageProcessor(image_grid_pinpoints=TILES, **IMAGES),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(directory)
