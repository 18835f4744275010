"""A tiny PaliGemma 2 of real classes, random weights."""

from pathlib import Path

import torch
from tiny_tokenizer import byte_tokenizer
from transformers import (
    Gemma2Config,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

SIZE, PATCH = 32, 8


def save_paligemma(directory: Path) -> None:
    """Tower 16 wide with a 4 x 4 grid, so 16 image tokens; language model 32 wide, one layer with a window of 512."""
    images = SiglipImageProcessor(size={"height": SIZE, "width": SIZE}, image_seq_length=(SIZE // PATCH) ** 2)
    processor = PaliGemmaProcessor(images, byte_tokenizer())
    tokenizer = processor.tokenizer  # with places and segments, which the processor adds
    sizes = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"hidden_size": 32, "num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 16}
    ids = {f"{name}_id": getattr(tokenizer, f"{name}_id") for name in ("bos_token", "eos_token", "pad_token")}
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=16, image_size=SIZE, patch_size=PATCH, vision_use_head=False, **sizes
        ),
        text_config=Gemma2Config(**sizes, **text, **ids, vocab_size=len(tokenizer), sliding_window=512),
        image_token_index=processor.image_token_id,
        projection_dim=32,
        hidden_size=32,
    )
    torch.manual_seed(0)
    PaliGemmaForConditionalGeneration(config).save_pretrained(directory, max_shard_size="40KB")
    processor.save_pretrained(directory)
