"""Qwen3-VL: a Qwen2-VL whose language model is given features of three more blocks of the tower (DeepStack).

A merger each turns the states behind blocks 8, 16 and 24 of 27 into vectors that are added to the image tokens behind the first
three layers of the language model. A graft reads the donor at the same fractions of its depth, with mergers of its width that start
at zero where they are new: the language model first sees what a plain merger gives it, and learns how much of the rest to add. A
donor that hands on one state alone (a convolutional trunk, the pooled feature) has no others; such a graft has no DeepStack.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.tower.file import TowerHeader
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Plan
from mllm_adapters.contract.terms import GraftSettings, NewTensor, Source
from mllm_adapters.contract.tower_spec import TowerSpec
from mllm_adapters.hosts.qwen2_vl.host import MERGER, Qwen2VL, merger_shapes
from mllm_adapters.modules.same_depths import same_depths

if TYPE_CHECKING:
    from torch import Tensor, nn

DEEP = "visual.deepstack_merger_list."
#: A merger's tensors that tell its shape.
NEEDED = ("norm.weight", "linear_fc1.weight", "linear_fc2.weight")


class Qwen3VL(Qwen2VL):
    """Qwen3-VL, the dense ones; all that is not said here is Qwen2-VL's."""

    name = "qwen3-vl"
    title = "Qwen3-VL"
    checkpoint = "Qwen/Qwen3-VL-8B-Instruct"
    model_type = "qwen3_vl"
    model_class = "Qwen3VLForConditionalGeneration"
    tower_keys = r"(?:model\.)?visual\.(?!merger\.|deepstack_merger_list\.)"
    connector = ("visual.merger", *(f"{DEEP}{number}" for number in range(3)))
    preamble = ""
    geometry = (
        "ViT 1152 wide, patches of 16 px, any size",
        "merger of 2 x 2 patches, 2-layer MLP, and three more (DeepStack)",
        "any; 256 at 512 px",
    )
    parity_pixels = 512

    def prompt(self, question: str) -> str:
        """The question as one turn of ChatML."""
        return f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n"

    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """As Qwen2-VL's; config.json then names the donor's blocks that DeepStack reads.

        Raises:
            HostError: if the donor's grid does not divide into blocks, or the class token is to be kept.
        """
        plan = super().plan(source, donor, settings)
        vision = plan.files["config.json"]["vision_config"]
        blocks = _blocks(plan.tower, vision)
        vision["deepstack_visual_indexes"] = blocks
        return replace(plan, drop=() if blocks else tuple(name for name in source.tensors if DEEP in name))

    def build_tower(self, spec: TowerSpec, config: Any) -> "nn.Module":
        """The donor, and behind it the mergers of its width."""
        # inside functions, because listing the hosts needs neither torch nor transformers
        from mllm_adapters.hosts.qwen3_vl.visual import build_deep_visual

        return build_deep_visual(spec, config.vision_config)

    def processor(self, directory: Path) -> Any:
        """Load the stock processor; that of a graft does the donor's own preprocessing."""
        from transformers import Qwen3VLProcessor

        from mllm_adapters.hosts.qwen2_vl.visual import load_with_grids

        return load_with_grids(Qwen3VLProcessor, directory)

    def encode(self, tower: "nn.Module", config: Any, inputs: "dict[str, Tensor]") -> "Tensor":
        """The states that the mergers read: [patches of all images, 1 + deep ones, width]."""
        from mllm_adapters.hosts.qwen3_vl.visual import deep_states

        return deep_states(tower, inputs["pixel_values"], inputs["image_grid_thw"])

    def replay(self, tower: "nn.Module", config: Any) -> "nn.Module":
        """The mergers without a tower in front of them."""
        from mllm_adapters.hosts.qwen3_vl.visual import ReplayedDeepVisual

        return ReplayedDeepVisual(tower)

    def _new_tensors(
        self, source: Source, spec: TowerSpec, block: int, settings: GraftSettings
    ) -> tuple[NewTensor, ...]:
        """All mergers where the widths differ or with `--connector new`; new ones of DeepStack start at zero."""
        found = merger_shapes(source, MERGER, NEEDED)
        if found["norm.weight"] == (spec.width,) and settings.connector == "keep":
            return ()
        inside, out = spec.width * block, found["linear_fc2.weight"][0]
        deep = _blocks(spec, source.files["config.json"].get("vision_config", {}))
        return (
            *merger_tensors(MERGER, spec.width, inside, out),
            *(
                tensor
                for i in range(len(deep))
                for tensor in merger_tensors(f"{DEEP}{i}.", inside, inside, out, start=0.0)
            ),
        )


def _blocks(spec: TowerSpec | None, vision: Json) -> list[int]:
    """Blocks of the donor, counted from 0, that lie as deep in what is read of it as the host's do in its own tower."""
    states = [index + 1 for index in vision.get("deepstack_visual_indexes", (8, 16, 24))]
    return [state - 1 for state in same_depths(spec, states, vision.get("depth", 27))] if spec else []


def merger_tensors(name: str, norm: int, inside: int, out: int, start: float | None = None) -> tuple[NewTensor, ...]:
    """A new merger.

    Args:
        name: what its tensors' names start with.
        norm: width of its norm.
        inside: width of a block of tokens.
        out: width of the language model.
        start: a constant for its last layer.
    """
    return (
        NewTensor(f"{name}norm.weight", (norm,), fill=1.0),
        NewTensor(f"{name}norm.bias", (norm,), fill=0.0),
        NewTensor(f"{name}linear_fc1.weight", (inside, inside), inside),
        NewTensor(f"{name}linear_fc1.bias", (inside,), inside),
        NewTensor(f"{name}linear_fc2.weight", (out, inside), inside, start),
        NewTensor(f"{name}linear_fc2.bias", (out,), inside, start),
    )
