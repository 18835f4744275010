"""Qwen2.5-VL: as Qwen2-VL, with windows of attention in a tower that a graft does without, and another norm in the merger."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllm_adapters.contract.tower_spec import TowerSpec
from mllm_adapters.hosts.qwen2_vl import host as qwen2_vl

if TYPE_CHECKING:
    from torch import nn


def shim(spec: TowerSpec, config: Any) -> "nn.Module":
    """The donor and a merger of its width."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPatchMerger

    from mllm_adapters.hosts.qwen2_vl.visual import GraftedVisual

    vision = config.vision_config
    merger = Qwen2_5_VLPatchMerger(vision.out_hidden_size, spec.width, vision.spatial_merge_size)
    return GraftedVisual(spec, merger, vision.spatial_merge_size)


def processor(directory: Path) -> Any:
    """The stock processor; of a graft, with the donor's own preprocessing in it."""
    from transformers import Qwen2_5_VLProcessor

    from mllm_adapters.hosts.qwen2_vl.visual import load_with_grids

    return load_with_grids(Qwen2_5_VLProcessor, directory)


HOST = replace(
    qwen2_vl.HOST,
    name="qwen2.5-vl",
    title="Qwen2.5-VL",
    checkpoint="Qwen/Qwen2.5-VL-7B-Instruct",
    model_type="qwen2_5_vl",
    model_class="Qwen2_5_VLForConditionalGeneration",
    geometry=(
        "ViT 1280 wide, windows of 112 px, any size",
        "merger of 2 x 2 patches, 2-layer MLP",
        "any; 256 at 448 px",
    ),
    shim=shim,
    processor=processor,
)
