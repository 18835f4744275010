"""A tiny Gemma 3 of real classes, random weights."""

from pathlib import Path

import torch
from tiny_tokenizer import byte_tokenizer
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

SIZE, PATCH = 32, 8


def save_gemma3(directory: Path) -> None:
    """Tower 16 wide with a 4 x 4 grid, averaged to 4 image tokens; language model 32 wide, one layer with a window of 64."""
    tokenizer = byte_tokenizer(
        boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>"
    )
    sizes = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {name: getattr(tokenizer, f"{name}_id") for name in ("bos_token", "eos_token", "pad_token")}
    text = {
        "hidden_size": 32,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 64,
    }
    config = Gemma3Config(
        vision_config=sizes | {"hidden_size": 16, "image_size": SIZE, "patch_size": PATCH, "vision_use_head": False},
        text_config=sizes | text | ids | {"vocab_size": len(tokenizer), "sliding_window_pattern": 2},
        mm_tokens_per_image=4,
        **{
            f"{name}_token_index": tokenizer.convert_tokens_to_ids(getattr(tokenizer, f"{name}_token"))
            for name in ("boi", "eoi", "image")
        },
    )
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.1)  # it starts at 0
    model.save_pretrained(directory, max_shard_size="40KB")
    images = Gemma3ImageProcessor(size={"height": SIZE, "width": SIZE})
    Gemma3Processor(images, tokenizer, image_seq_length=4).save_pretrained(directory)
