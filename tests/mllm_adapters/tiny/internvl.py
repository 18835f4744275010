"""A tiny InternVL of real classes, random weights."""

from pathlib import Path

import torch
from tiny_tokenizer import byte_tokenizer
from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
)

SIZE, PATCH = 32, 8


def save_internvl(directory: Path, text_model: str = "qwen2") -> None:
    """Tower 16 wide with a 4 x 4 grid, so 4 image tokens a tile; language model of this `model_type`, 32 wide."""
    tokenizer = byte_tokenizer(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"model_type": text_model, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = InternVLConfig(
        vision_config=vision | {"image_size": [SIZE, SIZE], "patch_size": [PATCH, PATCH]},
        text_config=text | {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=(SIZE // PATCH) ** 2 // 4,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    InternVLForConditionalGeneration(config).save_pretrained(directory, max_shard_size="40KB")
    image_processor = GotOcr2ImageProcessor(size={"height": SIZE, "width": SIZE}, crop_to_patches=True, max_patches=2)
    videos = InternVLVideoProcessor()  # never used, but the processor's class insists
    InternVLProcessor(image_processor, tokenizer, videos, config.image_seq_length).save_pretrained(directory)
