"""Qwen2.5-VL: a Qwen2-VL whose own tower attends in windows, and whose merger has another norm."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllm_adapters.contract.tower_spec import TowerSpec
from mllm_adapters.hosts.qwen2_vl.host import Qwen2VL

if TYPE_CHECKING:
    from torch import nn


class Qwen25VL(Qwen2VL):
    """Qwen2.5-VL; all that is not said here is Qwen2-VL's."""

    name = "qwen2.5-vl"
    title = "Qwen2.5-VL"
    checkpoint = "Qwen/Qwen2.5-VL-7B-Instruct"
    model_type = "qwen2_5_vl"
    model_class = "Qwen2_5_VLForConditionalGeneration"
    geometry = (
        "ViT 1280 wide, windows of 112 px, any size",
        "merger of 2 x 2 patches, 2-layer MLP",
        "any; 256 at 448 px",
    )

    def build_tower(self, spec: TowerSpec, config: Any) -> "nn.Module":
        """The donor, and behind it a merger of its width."""
        # inside functions, because listing the hosts needs neither torch nor transformers
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPatchMerger

        from mllm_adapters.hosts.qwen2_vl.visual import GraftedVisual

        vision = config.vision_config
        merger = Qwen2_5_VLPatchMerger(vision.out_hidden_size, spec.width, vision.spatial_merge_size)
        return GraftedVisual(spec, merger, vision.spatial_merge_size)

    def processor(self, directory: Path) -> Any:
        """Load the stock processor; that of a graft does the donor's own preprocessing."""
        from transformers import Qwen2_5_VLProcessor

        from mllm_adapters.hosts.qwen2_vl.visual import load_with_grids

        return load_with_grids(Qwen2_5_VLProcessor, directory)
