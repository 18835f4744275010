"""A tiny Janus-Pro of real classes, random weights."""

from pathlib import Path

import torch
from tiny_tokenizer import byte_tokenizer
from transformers import JanusConfig, JanusForConditionalGeneration, JanusImageProcessor, JanusProcessor

SIZE, PATCH = 32, 8


def save_janus_pro(directory: Path) -> None:
    """Tower 16 wide with a 4 x 4 grid, so 16 image tokens; language model 32 wide; the smallest VQ tower that the class builds."""
    tokenizer = byte_tokenizer(
        image_token="<image_placeholder>", boi_token="<begin_of_image>", eoi_token="<end_of_image>"
    )
    vision = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2.0, "depth": 2}
    text = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = JanusConfig(
        vision_config=vision | {"image_size": SIZE, "patch_size": PATCH, "projection_dim": 32},
        text_config=text | {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(tokenizer)},
        vq_config={
            "embed_dim": 8,
            "num_embeddings": 8,
            "latent_channels": 32,
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "num_res_blocks": 1,
            "projection_dim": 32,
            "image_token_embed_dim": 32,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
    )
    torch.manual_seed(0)
    JanusForConditionalGeneration(config).save_pretrained(directory, max_shard_size="40KB")
    images = JanusImageProcessor(size={"height": SIZE, "width": SIZE}, min_size=2)
    JanusProcessor(images, tokenizer, num_image_tokens=(SIZE // PATCH) ** 2).save_pretrained(directory)
