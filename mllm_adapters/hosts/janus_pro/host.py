"""Janus-Pro: SigLIP-L/16 at 384 px, last state after the norm, no class token, an aligner of two linear layers, LLaMA.

The class can only build its own SigLIP, so a graft loads with `mllm_adapters.load`. Image generation (the VQ tower and its heads)
stays in the checkpoint, untouched and frozen.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgll.tower.file import TowerHeader
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Plan
from mllm_adapters.contract.terms import GraftSettings, HostError, NewTensor, Source
from mllm_adapters.contract.tower_spec import tower_spec
from mllm_adapters.hosts.janus_pro.layout import MODEL_TYPE, read_published
from mllm_adapters.modules.last_hidden_state import LastHiddenStateHost


class JanusPro(LastHiddenStateHost):
    """Janus-Pro, in transformers' layout or its makers' own."""

    name = "janus-pro"
    title = "Janus-Pro"
    family = "Janus"
    checkpoint = "deepseek-community/Janus-Pro-7B"
    model_type = "janus"
    makers_types = (MODEL_TYPE,)
    model_class = "JanusForConditionalGeneration"
    tower = "model.vision_model"
    tower_keys = r"(?:model\.)?vision_model\."
    connector = ("model.aligner",)
    lora_targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    marker = "<image_placeholder>\n"
    geometry = ("SigLIP-L/16 at 384 px, last state after the norm", "2-layer MLP", "576")
    bridges = True

    def prompt(self, question: str) -> str:
        """The question as one turn of the family's conversation."""
        return f"<|User|>: <image_placeholder>\n{question}\n\n<|Assistant|>:"

    def answer(self, letter: str) -> str:
        """The letter after a space; the space belongs to the letter's token."""
        return f" {letter}"

    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """Put the donor in the place of SigLIP, and make the aligner's first layer new where the widths differ.

        Raises:
            HostError: if the donor lacks the feature layer.
        """
        # inside functions, because listing the hosts needs neither torch nor transformers
        from mllm_adapters.modules.square_images import use_squares

        files = copy.deepcopy(source.files)
        vision = files["config.json"]["vision_config"]
        spec = tower_spec(
            donor,
            settings,
            vision.get("image_size", 384) // vision.get("patch_size", 16),
            post_norm=True,
            host_width=vision.get("hidden_size", 1024),
        )
        # image_size and patch_size stay: the VQ tower's geometry is derived from them
        if not spec.bridge:
            vision |= {"hidden_size": spec.width, "num_attention_heads": 1}
        preprocessing = donor.preprocessing.model_copy(update={"size": spec.size})
        use_squares(files, preprocessing, num_image_tokens=spec.count)
        return Plan(
            files=files,
            features=spec.count,
            tower=spec,
            positions=spec.positions(donor),
            new=_new_tensors(source, spec.width, settings),
        )

    def read_makers(self, directory: Path, parts: Mapping[str, Path]) -> Source:
        """Read a checkpoint of `multi_modality`."""
        return read_published(directory)

    def placeholders(self, files: dict[str, Json]) -> int:
        """The number in the processor's file."""
        return int(files.get("processor_config.json", {}).get("num_image_tokens", 576))

    def features(self, files: dict[str, Json]) -> int:
        """Number of tokens that the tower hands on."""
        vision = files["config.json"]["vision_config"]
        return int(vision.get("image_size", 384) // vision.get("patch_size", 16)) ** 2

    def processor(self, directory: Path) -> Any:
        """Load the stock processor; that of a graft does the donor's own preprocessing."""
        from transformers import JanusProcessor

        from mllm_adapters.modules.square_images import load_with_squares

        return load_with_squares(JanusProcessor, directory)


def _new_tensors(source: Source, width: int, settings: GraftSettings) -> tuple[NewTensor, ...]:
    found = {name.rpartition("aligner.")[2]: part.shape for name, part in source.tensors.items() if _is_aligner(name)}
    if "fc1.weight" not in found:
        raise HostError(
            "no tensor named *.aligner.fc1.weight: is this a whole Janus-Pro checkpoint in the transformers layout?"
        )
    out, old = found["fc1.weight"]
    new = []
    if width != old or settings.connector == "new":
        new += [NewTensor(".aligner.fc1.weight", (out, width), width), NewTensor(".aligner.fc1.bias", (out,), width)]
    if settings.connector == "new":
        new += [
            NewTensor(f".aligner.{name}", shape, out) for name, shape in found.items() if not name.startswith("fc1.")
        ]
    return tuple(new)


def _is_aligner(name: str) -> bool:
    return ".aligner." in name and "generation" not in name
