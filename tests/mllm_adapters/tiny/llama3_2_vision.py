"""A tiny Llama 3.2 Vision of real classes, random weights, gates open."""

from pathlib import Path

import torch
from tiny_tokenizer import byte_tokenizer
from transformers import MllamaConfig, MllamaForConditionalGeneration, MllamaImageProcessor, MllamaProcessor

SIZE, PATCH = 32, 8


def save_llama3_2_vision(directory: Path) -> None:
    """Tower 16 wide on up to four tiles of 4 x 4 patches, two states side by side; the second of three layers looks across."""
    turns = {"turn_start": "<|start_header_id|>", "turn_end": "<|end_header_id|>", "end": "<|eot_id|>"}
    tokenizer = byte_tokenizer(**turns, image_token="<|image|>")
    known = len(tokenizer) - 1  # the image's token comes last, and is never said
    text = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "cross_attention_layers": [1],
        "vocab_size": known,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "attention_heads": 2,
        "image_size": SIZE,
        "patch_size": PATCH,
        "intermediate_layers_indices": [1],
        "vision_output_dim": 32,
    }
    config = MllamaConfig(vision_config=vision, text_config=text, image_token_index=known)
    torch.manual_seed(0)
    model = MllamaForConditionalGeneration(config)
    with torch.no_grad():  # a closed gate would hide the image
        for name, parameter in model.named_parameters():
            parameter.fill_(0.5) if "gate" in name.rpartition(".")[2] else parameter.add_(
                torch.randn_like(parameter) * 0.05
            )
    model.save_pretrained(directory, max_shard_size="40KB")
    images = MllamaImageProcessor(size={"height": SIZE, "width": SIZE}, max_image_tiles=4)
    MllamaProcessor(images, tokenizer).save_pretrained(directory)
