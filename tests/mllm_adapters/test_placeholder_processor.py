"""The native hosts' processor: text, pixels, and the way through a directory."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_tokenizer import byte_tokenizer
from transformers import CLIPImageProcessor

from mllm_adapters.modules.placeholder_processor import PlaceholderProcessor

SETTINGS = {"marker": "<picture>", "before": "<s>", "token": "<image>", "after": "</s>", "count": 3}


def processor(**settings) -> PlaceholderProcessor:
    image_processor = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return PlaceholderProcessor(image_processor, byte_tokenizer(), **settings)


def photograph(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def test_a_marker_becomes_before_tokens_and_after() -> None:
    both = processor(**SETTINGS)
    encoded = both(images=photograph(), text="a <picture>b", return_tensors="pt")
    assert both.tokenizer.decode(encoded["input_ids"][0]) == "a <s><image><image><image></s>b"
    assert set(encoded) == {"input_ids", "attention_mask", "pixel_values"}
    expected = both.image_processor(images=photograph(), return_tensors="pt")["pixel_values"]
    assert torch.equal(encoded["pixel_values"], expected)


def test_batches_are_padded_on_the_side_that_is_asked_for() -> None:
    both = processor()
    texts = ["<image>long question", "<image>short"]
    encoded = both(
        images=[photograph(0), photograph(1)], text=texts, padding=True, padding_side="left", return_tensors="pt"
    )
    assert encoded["input_ids"].shape == encoded["attention_mask"].shape == (2, 14)
    assert encoded["attention_mask"][1].tolist() == [0] * 8 + [1] * 6
    assert (encoded["input_ids"] == both.tokenizer.convert_tokens_to_ids("<image>")).sum(-1).tolist() == [1, 1]
    right = both(images=[photograph()] * 2, text=texts, padding=True, padding_side="right", return_tensors="pt")
    assert right["attention_mask"][1].tolist() == [1] * 6 + [0] * 8
    assert texts == ["<image>long question", "<image>short"]


def test_lists_come_without_return_tensors() -> None:
    encoded = processor(count=4)(images=[photograph()] * 2, text=["<image>a", "b<image>c d"])
    assert [len(ids) for ids in encoded["input_ids"]] == [5, 8]


def test_the_round_trip_through_a_directory(tmp_path: Path) -> None:
    before = processor(**SETTINGS)
    before.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert {key: saved[key] for key in SETTINGS} == SETTINGS
    after = PlaceholderProcessor.from_pretrained(tmp_path)
    assert {key: getattr(after, key) for key in SETTINGS} == SETTINGS
    inputs = {"images": photograph(), "text": "x<picture>y", "return_tensors": "pt"}
    for key, value in before(**inputs).items():
        assert torch.equal(value, after(**inputs)[key]), key


def test_images_and_markers_must_be_equally_many() -> None:
    with pytest.raises(ValueError, match="number of"):
        processor()(images=[photograph()] * 2, text=["<image>a", "b"])
    with pytest.raises(ValueError, match="no images"):
        processor()(text="<image>a")
    assert list(processor()(text="only text")) == ["input_ids", "attention_mask"]


def test_a_token_that_the_tokenizer_would_split_is_refused() -> None:
    with pytest.raises(ValueError, match="'<unknown>' is 9 tokens"):
        processor(token="<unknown>")
    with pytest.raises(ValueError, match="would not be seen"):
        processor(count=0)
