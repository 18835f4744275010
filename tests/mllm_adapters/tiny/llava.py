"""A tiny LLaVA of real classes, random weights."""

from pathlib import Path

import torch
from tiny_tokenizer import byte_tokenizer
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessor,
    LlavaProcessor,
)

SIZE, PATCH = 32, 8


def save_llava(directory: Path) -> None:
    """Tower 16 wide with a 4 x 4 grid, so 16 image tokens; language model 32 wide."""
    tokenizer = byte_tokenizer()
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16, intermediate_size=32, image_size=SIZE, patch_size=PATCH, **sizes
        ),
        text_config=LlamaConfig(hidden_size=32, intermediate_size=48, vocab_size=len(tokenizer), **sizes),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIZE // PATCH) ** 2,
    )
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(directory, max_shard_size="40KB")
    LlavaProcessor(
        image_processor=LlavaImageProcessor(size={"height": SIZE, "width": SIZE}, do_center_crop=False, do_pad=True),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(directory)
