"""Qwen-VL(-Chat): ViT-bigG/14 at 448 px, a resampler of 256 queries, Qwen-7B.

The resampler takes tokens of any square grid and always gives 256, so the number of image tokens never changes, and all of the
resampler is kept except `kv_proj`, its map from the tower's width.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.tower.file import TowerHeader
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Host, Plan
from mllm_adapters.contract.terms import GraftSettings, HostError, NewTensor, Source
from mllm_adapters.contract.tower_spec import TowerSpec, tower_spec
from mllm_adapters.hosts.qwen_vl.layout import MARKER, RESAMPLER, read_published
from mllm_adapters.modules.image_processor import image_processor_settings

if TYPE_CHECKING:
    from torch import Tensor, nn


class QwenVL(Host):
    """Qwen-VL and Qwen-VL-Chat."""

    name = "qwen-vl"
    title = "Qwen-VL"
    family = "Qwen"
    checkpoint = "Qwen/Qwen-VL-Chat"
    model_type = "mgll_qwen_vl"
    makers_types = ("qwen",)
    model_class = "mllm_adapters.hosts.qwen_vl.model:QwenVLForConditionalGeneration"
    tower = "visual.tower"
    tower_keys = r"visual\.tower\."
    connector = ("visual.resampler",)
    lora_targets = r".*language_model\.model\.layers\.\d+\.(self_attn\.(q|k|v|o)|mlp\.(gate|up))_proj"
    marker = f"Picture 1: {MARKER}\n"
    preamble = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>"
    geometry = ("ViT-bigG/14 at 448 px, 1664 wide, no class token", "resampler of 256 queries", "256")
    bridges = True

    def prompt(self, question: str) -> str:
        """The question in the form that Qwen-VL-Chat was tuned on."""
        return (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            f"<|im_start|>user\nPicture 1: {MARKER}\n{question}<|im_end|>\n<|im_start|>assistant\n"
        )

    def answer(self, letter: str) -> str:
        """The letter alone, because the prompt ends with a line break."""
        return letter

    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """Change configuration and processor to those of this donor, and make `kv_proj` new where the widths differ.

        Raises:
            HostError: if tokens are to be pooled or the class token is to be kept, or the donor does not fit the settings.
        """
        if settings.tokens == "pooled":
            raise HostError(
                "Qwen-VL's resampler would make 256 equal tokens of one pooled feature; use --tokens native, resize_features or"
                " resize_posemb"
            )
        if settings.feature_select == "full":
            raise HostError("Qwen-VL's resampler places tokens on a square; with the class token they form none")
        files = copy.deepcopy(source.files)
        config = files["config.json"]
        vision = config["vision_config"]
        width = config.get("feature_width") or vision["hidden_size"]
        tower = tower_spec(donor, settings, vision["image_size"] // vision["patch_size"], host_width=width)
        config["feature_width"] = tower.width
        preprocessing = donor.preprocessing.model_copy(update={"size": tower.size})
        files["processor_config.json"]["image_processor"] = image_processor_settings(preprocessing)
        return Plan(
            files=files,
            features=config["query_grid"] ** 2,
            tower=tower,
            positions=tower.positions(donor),
            new=_new_tensors(source, tower.width, settings),
        )

    def placeholders(self, files: dict[str, Json]) -> int:
        """The number in the processor's file."""
        return int(files["processor_config.json"]["count"])

    def features(self, files: dict[str, Json]) -> int:
        """Number of queries of the resampler."""
        return int(files["config.json"]["query_grid"]) ** 2

    def build_tower(self, spec: TowerSpec, config: Any) -> "nn.Module":
        """The donor, which returns bare tokens, as the resampler reads them."""
        # inside functions, because listing the hosts needs neither torch nor transformers
        from mllm_adapters.modules.grafted_tower import GraftedTower

        return GraftedTower(spec, lambda tokens: tokens)

    def read_makers(self, directory: Path, parts: Mapping[str, Path]) -> Source:
        """Read the published checkpoint under the names of our model."""
        return read_published(directory)

    def processor(self, directory: Path) -> Any:
        """Load the processor of a directory."""
        from mllm_adapters.modules.placeholder_processor import PlaceholderProcessor

        return PlaceholderProcessor.from_pretrained(directory)

    def encode(self, tower: "nn.Module", config: Any, inputs: "dict[str, Tensor]") -> "Tensor":
        """The tokens that the resampler reads: [B, patches, width]."""
        tokens: Tensor = tower(inputs["pixel_values"])
        return tokens

    def replay(self, tower: "nn.Module", config: Any) -> "nn.Module":
        """A module that returns kept tokens as they are."""
        from mllm_adapters.modules.grafted_tower import Replay

        return Replay(lambda tokens: tokens)


def _new_tensors(source: Source, width: int, settings: GraftSettings) -> tuple[NewTensor, ...]:
    """`kv_proj` where the widths differ; with `--connector new` the whole resampler except its fixed positions."""
    shapes = {name: part.shape for name, part in source.tensors.items() if name.startswith(RESAMPLER)}
    kv_proj = f"{RESAMPLER}kv_proj.weight"
    hidden, old_width = shapes[kv_proj]
    shapes[kv_proj] = (hidden, width)
    if settings.connector == "keep":
        return () if width == old_width else (NewTensor(kv_proj, (hidden, width), width),)
    del shapes[f"{RESAMPLER}pos_embed"]
    return tuple(
        NewTensor(name, shape, shape[-1])
        if len(shape) > 1
        else NewTensor(name, shape, fill=float(name.endswith("weight")))
        for name, shape in shapes.items()
    )
