"""A tiny Qwen3.5 of real classes, random weights."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny.qwen2_vl import VISION, image_processor, places, save, text_config, tokenizer_with_places
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration, Qwen3VLProcessor, Qwen3VLVideoProcessor


def save_qwen3_5(directory: Path) -> None:
    """As the tiny Qwen3-VL without DeepStack; the first of two layers is recurrent, a quarter of the second's heads turns."""
    tokenizer = tokenizer_with_places()
    vision = VISION | {
        "hidden_size": 16,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "num_position_embeddings": 16,
    }
    text = text_config(tokenizer) | {
        "head_dim": 32,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 1,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }
    turning = {"mrope_section": [2, 1, 1], "mrope_interleaved": True, "partial_rotary_factor": 0.25}
    text["rope_parameters"] = text["rope_parameters"] | turning
    config = Qwen3_5Config(vision_config=vision, text_config=text, **places(tokenizer))
    save(Qwen3_5ForConditionalGeneration, config, directory)
    _add_prediction_of_several_tokens(directory)
    parts = (image_processor(), tokenizer, Qwen3VLVideoProcessor())  # no videos here, but the class insists
    Qwen3VLProcessor(*parts).save_pretrained(directory)


def _add_prediction_of_several_tokens(directory: Path) -> None:
    """The `mtp.` tensors of published checkpoints, which transformers' class leaves aside."""
    index = directory / "model.safetensors.index.json"
    said, further = (
        json.loads(index.read_text()),
        {"mtp.fc.weight": torch.ones(32, 64), "mtp.norm.weight": torch.ones(32)},
    )
    save_file(further, directory / "mtp.safetensors", {"format": "pt"})
    said["weight_map"] |= dict.fromkeys(further, "mtp.safetensors")
    index.write_text(json.dumps(said))
