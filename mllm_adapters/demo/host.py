"""The demo's MLLM: a plain transformers LLaVA made of a tower file, a new connector and the decoder trained on text.

It needs no download and is built in about a second. At first it can read questions but not images: its connector has to be trained.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import LlavaProcessor
from transformers.models.llava.image_processing_llava import LlavaImageProcessor

from mgll.encoders.vision import vision_encoder
from mgll.files import atomic_path, sha256
from mgll.images.preprocessing import Preprocessing
from mgll.provenance import provenance
from mgll.tower.config import CLIP, Pooling
from mgll.tower.file import load_tower, save_tower
from mgll.tower.model import build_model, config_of
from mllm_adapters.demo.decoder import build_tokenizer, shipped_decoder, shipped_sha256
from mllm_adapters.demo.joining import joined
from mllm_adapters.demo.settings import DemoHostSettings
from mllm_adapters.modules.image_processor import image_processor_settings

RECORD = "demo_host.json"


def build_demo_host(
    tower: str | os.PathLike[str], out: str | os.PathLike[str], settings: DemoHostSettings | None = None
) -> Path:
    """Write a LLaVA checkpoint directory that plain transformers loads; the same arguments give the same bytes.

    Args:
        tower: a tower file (`mgll.ckpt`).
        out: directory to write; an existing one is replaced.
        settings: how the parts are joined; the defaults when None.

    Returns:
        `out`.

    Raises:
        FormatError: if the tower file is not whole.
        ValueError: if the tower does not have the layer `settings.feature_layer`, or is no CLIP tower.
    """
    settings = settings or DemoHostSettings()
    encoder, header = load_tower(tower)
    if header.kind != CLIP:
        raise ValueError(f"{tower} is a {header.kind}; the demo host is built on a CLIP tower, graft this one into it")
    vision: Any = encoder.config
    grid = vision.image_size // vision.patch_size
    if not -vision.num_hidden_layers - 1 <= settings.feature_layer <= vision.num_hidden_layers:
        raise ValueError(f"feature layer {settings.feature_layer}: {tower} has {vision.num_hidden_layers} blocks")
    processor = demo_processor(header.preprocessing, vision.patch_size, settings)
    decoder = shipped_decoder()
    model = joined(
        encoder,
        decoder,
        image_token=processor.tokenizer.convert_tokens_to_ids("<image>"),
        features=grid * grid + (settings.feature_select == "full"),
        layer=settings.feature_layer,
        select=settings.feature_select,
        seed=settings.seed,
    )
    record = {
        "made_by": "mllm_adapters.demo.host: a toy model for the demo. Research use only, not for diagnosis.",
        "tower_sha256": sha256(tower),
        "decoder_sha256": shipped_sha256(),
        "settings": asdict(settings),
        "provenance": provenance(),
    }
    with atomic_path(out) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        (temporary / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return Path(out)


def demo_processor(preprocessing: Preprocessing, patch_size: int, settings: DemoHostSettings) -> LlavaProcessor:
    """LLaVA's processor with the demo's word-level tokenizer; it prepares images as the tower's preprocessing says."""
    return LlavaProcessor(
        image_processor=LlavaImageProcessor(**image_processor_settings(preprocessing)),
        tokenizer=build_tokenizer(),
        patch_size=patch_size,
        vision_feature_select_strategy=settings.feature_select,
        num_additional_image_tokens=1,
    )


def demo_checkpoint(cache: str | os.PathLike[str]) -> Path:
    """The demo host with a randomly initialised ViT-Ti/16 at 96 px, built in `cache` unless it is there already.

    It takes the place of a user's own checkpoint, so that a tower can be swapped in seconds, without data or network.
    """
    out = Path(cache) / "demo-llava"
    tower = Path(cache) / "random-tower.ckpt"
    save_random_tower(tower)
    if not _is_of(out, tower):
        build_demo_host(tower, out)
    return out


def save_random_tower(
    path: str | os.PathLike[str],
    seed: int = 0,
    encoder: str = "vit-tiny-16",
    preprocessing: Preprocessing | None = None,
    pooling: Pooling = "mean",
    encoder_options: Mapping[str, Any] | None = None,
) -> None:
    """Write a tower file with random weights: the untrained tower that trained ones are compared with, at equal preprocessing."""
    preprocessing = preprocessing or Preprocessing(size=96)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = vision_encoder(encoder, preprocessing.size, **(encoder_options or {}))
        if encoder.startswith("hf:"):  # `vision_encoder` has loaded its weights; build it anew without them
            model = build_model(config_of(model))
    save_tower(path, model, preprocessing, pooling, objective="none: randomly initialised", seed=seed)


def _is_of(host: Path, tower: Path) -> bool:
    """Whether the host directory is complete and was built from this tower and the decoder of this version."""
    try:
        record: dict[str, Any] = json.loads((host / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    same = (record.get("tower_sha256"), record.get("decoder_sha256")) == (sha256(tower), shipped_sha256())
    return same and (host / "model.safetensors").is_file()
