"""A LLaVA put together of a pretrained vision model and a pretrained language model, each a folder of transformers.

Its connector is new, so that it has to be aligned and tuned before it can see. Plain transformers load it.
"""

import os
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlavaProcessor
from transformers.models.llava.image_processing_llava import LlavaImageProcessor

from mgll.encoders.vision import vision_encoder
from mgll.files import atomic_path
from mgll.images.preprocessing import Preprocessing
from mgll.tower.model import measure
from mllm_adapters.demo.joining import joined
from mllm_adapters.modules.image_processor import image_processor_settings

IMAGE = "<image>"


def assemble_llava(
    vision: str | os.PathLike[str],
    language_model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    preprocessing: Preprocessing,
    feature_layer: int = -1,
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Write a LLaVA of two folders; the same arguments give the same bytes.

    Args:
        vision: folder of a vision model of transformers; its position table is resized to the images' size.
        language_model: folder of a causal language model and its tokenizer, which gets a token for the image.
        out: directory to write; an existing one is replaced.
        preprocessing: how images become the tower's input.
        feature_layer: the tower's hidden state that the connector reads; -1 is the last.
        seed: seed of the connector's weights.
        dtype: of all weights in the files.

    Returns:
        `out`.

    Raises:
        FormatError: if the vision folder holds no model that a tower can be.
    """
    tower = vision_encoder(f"hf:{vision}", preprocessing.size)
    geometry = measure(tower, preprocessing.size)
    tokenizer = AutoTokenizer.from_pretrained(language_model, padding_side="left")
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]}, replace_extra_special_tokens=False)
    words = AutoModelForCausalLM.from_pretrained(language_model, dtype=torch.float32)
    # every row is a word's or the image's; the image's is never read, since features stand in its place
    words.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    select: Literal["default", "full"] = "default" if geometry.class_token else "full"
    image, count = tokenizer.get_vocab()[IMAGE], geometry.grid**2
    model: Any = joined(tower, words, image, features=count, layer=feature_layer, select=select, seed=seed)
    processor = LlavaProcessor(
        image_processor=LlavaImageProcessor(**image_processor_settings(preprocessing)),
        tokenizer=tokenizer,
        patch_size=geometry.stride,
        vision_feature_select_strategy=select,
        image_token=IMAGE,
        num_additional_image_tokens=int(geometry.class_token),
    )
    with atomic_path(out) as temporary:
        model.to(dtype).save_pretrained(temporary)
        processor.save_pretrained(temporary)
    return Path(out)
