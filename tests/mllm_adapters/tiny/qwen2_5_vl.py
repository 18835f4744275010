"""A tiny Qwen2.5-VL of real classes, random weights."""

from pathlib import Path

from tiny.qwen2_vl import PATCH, VISION, image_processor, places, save, text_config, tokenizer_with_places
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLVideoProcessor,
)


def save_qwen2_5_vl(directory: Path) -> None:
    """As the tiny Qwen2-VL; attention in windows of 2 x 2 blocks, but in the last layer."""
    tokenizer = tokenizer_with_places()
    vision = VISION | {
        "hidden_size": 16,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "window_size": 4 * PATCH,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(vision_config=vision, text_config=text_config(tokenizer), **places(tokenizer))
    save(Qwen2_5_VLForConditionalGeneration, config, directory)
    parts = (image_processor(), tokenizer, Qwen2VLVideoProcessor())  # no videos here, but the class insists
    Qwen2_5_VLProcessor(*parts).save_pretrained(directory)
