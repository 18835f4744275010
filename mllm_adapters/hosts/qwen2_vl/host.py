"""Qwen2-VL: a ViT 1280 wide on images of any size, a merger of 2 x 2 patches, Qwen2.

The merger starts with the tower's width in every layer, so a donor of another width makes all of it new. Positions of image
tokens have a row and a column of their own, which the model derives from `image_grid_thw` and `mm_token_type_ids`.
"""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.tower.file import TowerHeader
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Host, Plan
from mllm_adapters.contract.prompts import EncodedPrompts
from mllm_adapters.contract.terms import GraftSettings, HostError, NewTensor, Source
from mllm_adapters.contract.tower_spec import TowerSpec, tower_spec
from mllm_adapters.modules.image_processor import image_processor_settings

if TYPE_CHECKING:
    from torch import Tensor, nn

MERGER = "visual.merger."


class Qwen2VL(Host):
    """Qwen2-VL; Qwen2.5-VL and Qwen3-VL inherit from it.

    Attributes:
        parity_pixels: side of the square whose grid stands for the host's own, which takes images of any size; 256 image tokens.
    """

    name = "qwen2-vl"
    title = "Qwen2-VL"
    family = "Qwen"
    checkpoint = "Qwen/Qwen2-VL-7B-Instruct"
    model_type = "qwen2_vl"
    model_class = "Qwen2VLForConditionalGeneration"
    tower = "model.visual"
    tower_keys = r"(?:model\.)?visual\.(?!merger\.)"
    connector = ("visual.merger",)
    lora_targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    marker = "<|vision_start|><|image_pad|><|vision_end|>"
    preamble = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>"
    geometry = (
        "ViT 1280 wide, patches of 14 px, any size",
        "merger of 2 x 2 patches, 2-layer MLP",
        "any; 256 at 448 px",
    )
    position_axes = 3
    dynamic = True
    parity_pixels = 448

    def prompt(self, question: str) -> str:
        """The question as one turn of ChatML."""
        return (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n"
        )

    def answer(self, letter: str) -> str:
        """The letter alone, because the prompt ends with a line break."""
        return letter

    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """Cut the donor's grid into blocks, give the merger its width, and have the processor make the donor's square.

        Raises:
            HostError: if the donor's grid does not divide into blocks, or the class token is to be kept.
        """
        # inside functions, because listing the hosts needs neither torch nor transformers
        from mllm_adapters.modules.square_images import FILE

        files = copy.deepcopy(source.files)
        spec = tower_spec(donor, settings, self._host_grid(files))
        merge = _vision(files).get("spatial_merge_size", 2)
        side = merge if spec.tokens == "pooled" else spec.grid
        if side % merge or spec.class_token:
            raise HostError(
                f"the merger takes blocks of {merge} x {merge} patches and no class token; the donor hands on a grid of side {side}"
                f"{' and a class token' if spec.class_token else ''}; use --tokens resize_features, without --feature-select full"
            )
        preprocessing = donor.preprocessing.model_copy(update={"size": spec.size})
        files[FILE] = image_processor_settings(preprocessing) | {"grid": side, "merge_size": merge}
        return Plan(
            files=files,
            features=(side // merge) ** 2,
            tower=spec,
            positions=spec.positions(donor),
            new=self._new_tensors(source, spec, merge**2, settings),
        )

    def placeholders(self, files: dict[str, Json]) -> int:
        """The number that a graft's file gives; for an untouched host, which has no fixed number, that of a square of 448 px."""
        square = files.get("square_images.json")
        if square:
            return int(square["grid"] // square["merge_size"]) ** 2
        return int(self._host_grid(files) // _vision(files).get("spatial_merge_size", 2)) ** 2

    def build_tower(self, spec: TowerSpec, config: Any) -> "nn.Module":
        """The donor, and behind it a merger of its width."""
        from transformers.models.qwen2_vl.modeling_qwen2_vl import PatchMerger

        from mllm_adapters.hosts.qwen2_vl.visual import GraftedVisual

        vision = config.vision_config
        merger = PatchMerger(vision.hidden_size, spec.width, vision.spatial_merge_size)
        return GraftedVisual(spec, merger, vision.spatial_merge_size)

    def processor(self, directory: Path) -> Any:
        """Load the stock processor; that of a graft does the donor's own preprocessing."""
        from transformers import Qwen2VLProcessor

        from mllm_adapters.hosts.qwen2_vl.visual import load_with_grids

        return load_with_grids(Qwen2VLProcessor, directory)

    def encode(self, tower: "nn.Module", config: Any, inputs: "dict[str, Tensor]") -> "Tensor":
        """The states that the merger reads: [patches of all images, width]."""
        from mllm_adapters.hosts.qwen2_vl.visual import states_in_blocks

        return states_in_blocks(tower, inputs["pixel_values"], inputs["image_grid_thw"])

    def replay(self, tower: "nn.Module", config: Any) -> "nn.Module":
        """The merger without a tower in front of it."""
        from mllm_adapters.hosts.qwen2_vl.visual import ReplayedVisual

        return ReplayedVisual(tower)

    def own_positions(self, model: Any, encoded: EncodedPrompts) -> "Tensor":
        """Time, row and column of every token of the first prompt: [3, length]."""
        import torch

        found: Tensor = model.model.get_rope_index(
            torch.tensor(encoded.ids[:1]),
            mm_token_type_ids=torch.tensor(encoded.beside["mm_token_type_ids"][:1]),
            image_grid_thw=encoded.image["image_grid_thw"],
        )[0]
        return found[:, 0]

    def _host_grid(self, files: dict[str, Json]) -> int:
        return int(self.parity_pixels // _vision(files).get("patch_size", 14))

    def _new_tensors(
        self, source: Source, spec: TowerSpec, block: int, settings: GraftSettings
    ) -> tuple[NewTensor, ...]:
        """The whole merger where the widths differ or with `--connector new`; Qwen2.5-VL's norm has no bias."""
        found = merger_shapes(source, MERGER, ("ln_q.weight", "mlp.0.weight", "mlp.2.weight"))
        width = spec.width
        if found["ln_q.weight"] == (width,) and settings.connector == "keep":
            return ()
        inside, out = width * block, found["mlp.2.weight"][0]
        new = {
            "ln_q.weight": NewTensor(f"{MERGER}ln_q.weight", (width,), fill=1.0),
            "ln_q.bias": NewTensor(f"{MERGER}ln_q.bias", (width,), fill=0.0),
            "mlp.0.weight": NewTensor(f"{MERGER}mlp.0.weight", (inside, inside), inside),
            "mlp.0.bias": NewTensor(f"{MERGER}mlp.0.bias", (inside,), inside),
            "mlp.2.weight": NewTensor(f"{MERGER}mlp.2.weight", (out, inside), inside),
            "mlp.2.bias": NewTensor(f"{MERGER}mlp.2.bias", (out,), inside),
        }
        return tuple(tensor for name, tensor in new.items() if name in found)


def _vision(files: dict[str, Json]) -> Json:
    return dict(files["config.json"].get("vision_config", {}))


def merger_shapes(source: Source, merger: str, needed: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of a merger's tensors by their names in it.

    Raises:
        HostError: if the checkpoint lacks one of those that are needed.
    """
    found = {name.rpartition(merger)[2]: part.shape for name, part in source.tensors.items() if merger in name}
    if not set(needed) <= found.keys():
        raise HostError(f"no tensors named *{merger}*: is this a whole checkpoint of the family?")
    return found
