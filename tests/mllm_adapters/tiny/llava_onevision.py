"""A tiny LLaVA-OneVision of real classes, random weights."""

from pathlib import Path

import torch
from tiny.llava_next import PATCH, SIZE, TEXT, TILES, TOWER
from tiny_tokenizer import byte_tokenizer
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    Qwen2Config,
    SiglipVisionConfig,
)


def save_llava_onevision(directory: Path) -> None:
    """Tower 16 wide with a 4 x 4 grid on the image and two or four tiles; language model 32 wide."""
    tokenizer = byte_tokenizer(image_token="<image>", video_token="<video>")
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**TOWER, vision_use_head=False),
        text_config=Qwen2Config(**TEXT, vocab_size=len(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=TILES,
    )
    torch.manual_seed(0)
    LlavaOnevisionForConditionalGeneration(config).save_pretrained(directory, max_shard_size="40KB")
    LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(image_grid_pinpoints=TILES, size={"height": SIZE, "width": SIZE}),
        tokenizer,
        LlavaOnevisionVideoProcessor(),  # no videos here, but the class insists
        num_image_tokens=(SIZE // PATCH) ** 2,
        vision_feature_select_strategy="full",
    ).save_pretrained(directory)
