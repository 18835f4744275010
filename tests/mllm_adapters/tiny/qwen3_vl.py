"""A tiny Qwen3-VL of real classes, random weights."""

from pathlib import Path

from tiny.qwen2_vl import VISION, image_processor, places, save, text_config, tokenizer_with_places
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor, Qwen3VLVideoProcessor


def save_qwen3_vl(directory: Path) -> None:
    """As the tiny Qwen2-VL; the states behind the first of two blocks go to the language model's first layer."""
    tokenizer = tokenizer_with_places()
    vision = VISION | {
        "hidden_size": 16,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }
    text = text_config(tokenizer) | {"head_dim": 16}
    text["rope_parameters"] = text["rope_parameters"] | {"mrope_section": [4, 2, 2], "mrope_interleaved": True}
    config = Qwen3VLConfig(vision_config=vision, text_config=text, **places(tokenizer))
    save(Qwen3VLForConditionalGeneration, config, directory)
    parts = (image_processor(), tokenizer, Qwen3VLVideoProcessor())  # no videos here, but the class insists
    Qwen3VLProcessor(*parts).save_pretrained(directory)
