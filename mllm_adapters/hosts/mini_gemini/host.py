"""Mini-Gemini (MGM): a LLaVA on Vicuna whose 576 image tokens each look up detail in a ConvNeXt's high-resolution map.

Only the low-resolution tower is replaced. The ConvNeXt stays and keeps its pixels, 768 px and CLIP-normalised, so a donor
normalises and resizes for itself. Each token looks at its own window of the map's 192 x 192 cells: a donor's grid must divide
that number.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

from mgll.images.preprocessing import Preprocessing
from mgll.tower.config import CLIP
from mgll.tower.file import TowerHeader
from mgll.weights.model_folder import read_json
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Host, Plan
from mllm_adapters.contract.terms import GraftSettings, HostError, NewTensor, Source
from mllm_adapters.contract.tower_spec import TowerSpec, tower_spec
from mllm_adapters.hosts.llava.host import Llava, edit_processor, grid_side, saved_vision
from mllm_adapters.hosts.mini_gemini.layout import CLASS, HUB_IDS, MAKERS_TYPES, MODEL_TYPE, left_out, read_published
from mllm_adapters.modules.image_processor import preprocessing_of

#: Pixels along the side of a cell of the map.
CELL = 4
#: What the tensors of a norm start at.
NORM = (("weight", 1.0), ("bias", 0.0))


class MiniGemini(Llava):
    """Mini-Gemini on Vicuna (MGM-7B and MGM-13B)."""

    name = "mini-gemini"
    title = "Mini-Gemini"
    checkpoint = "YanweiLi/MGM-7B"
    model_type = MODEL_TYPE
    model_class = f"mllm_adapters.hosts.mini_gemini.model:{CLASS}"
    tower_keys = r"model\.vision_tower\."
    connector = ("mining", "multi_modal_projector")
    geometry = (
        "CLIP ViT-L/14 at 336 px, hidden state -2; ConvNeXt-L at 768 px stays",
        "patch-info mining, 2-layer MLP",
        "576",
    )
    parts = HUB_IDS
    makers_types = MAKERS_TYPES
    in_makers_layout = Host.in_makers_layout
    stock_towers = ()
    first_linear = None  # the mining, which starts with a norm, reads the tokens too
    encode = Host.encode  # the ConvNeXt needs the pixels themselves, so the tower's output is not kept
    replay = Host.replay

    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """Change configuration and processor to those of this donor, and make the connector's layers of another width new.

        Raises:
            HostError: if the donor lacks the feature layer or does not see RGB, the class token is asked for, or the donor's grid
                does not divide the map's.
        """
        files = copy.deepcopy(source.files)
        config, seen = files["config.json"], _preprocessing(files)
        layer, host_grid = config["vision_feature_layer"], grid_side(config["vision_config"])
        spec = tower_spec(donor, settings, host_grid, layer, host_normalisation=(seen.mean, seen.std))
        grid = 1 if settings.tokens == "pooled" else spec.grid
        _check_grid(grid, seen.size // CELL, spec.class_token)
        own = _is_own_tower(spec, donor, config, seen)
        if not own:  # the donor prepares its pixels itself; all that it hands on is tokens, in the last place
            config |= {
                "vision_config": spec.stand_in(),
                "low_image_size": None,
                "image_seq_length": grid * grid,
                "vision_feature_layer": -1,
                "vision_feature_select_strategy": "full",
            }
            counts = {
                "patch_size": seen.size // grid,
                "num_additional_image_tokens": 0,
                "vision_feature_select_strategy": "full",
            }
            edit_processor(files, seen.model_copy(update={"resize": donor.preprocessing.resize}), counts)
        return Plan(
            files=files,
            features=grid * grid,
            tower=None if own else spec,
            positions=spec.positions(donor),
            new=_new_tensors(source, spec.width, settings),
            unchanged_behaviour=own,
        )

    def left_out(self, directory: Path, parts: Mapping[str, Path], own_tower: bool) -> Mapping[str, str]:
        """The towers that the published checkpoint only names."""
        return left_out(directory, own_tower) if self.in_makers_layout(read_json(directory / "config.json")) else {}

    def read_makers(self, directory: Path, parts: Mapping[str, Path]) -> Source:
        """Read a checkpoint of `mgm`, with the towers that it leaves out."""
        return read_published(directory, parts)


def _preprocessing(files: dict[str, Json]) -> Preprocessing:
    """How a photograph becomes the large image that both branches see."""
    return preprocessing_of(files["processor_config.json"].get("image_processor") or files["preprocessor_config.json"])


def _check_grid(grid: int, cells: int, class_token: bool) -> None:
    if class_token:
        raise HostError("a class token has no window of the high-resolution map; leave --feature-select alone")
    if cells % grid:
        raise HostError(
            f"the donor's grid of {grid} x {grid} does not divide the map of {cells} x {cells} cells, and each token looks at its"
            " own window of it; use --tokens resize_features"
        )


def _is_own_tower(spec: TowerSpec, donor: TowerHeader, config: Json, seen: Preprocessing) -> bool:
    """Whether the donor is shaped, fed and read as the published tower is, so that the host's own class can run it."""
    # inside functions, because listing the hosts needs neither torch nor transformers
    from transformers import CLIPVisionConfig

    size = config["low_image_size"]
    if size is None or spec.kind != CLIP or spec.tokens == "pooled" or spec.layer != config["vision_feature_layer"]:
        return False
    published = {key: value for key, value in config["vision_config"].items() if key != "model_type"}
    one, other = (saved_vision(CLIPVisionConfig(**vision).to_dict()) for vision in (spec.config, published))
    shown = donor.preprocessing.model_copy(
        update={"decode": seen.decode}
    )  # how files are decoded is not the processor's affair
    return one == other and shown == seen.model_copy(update={"size": size})


def _new_tensors(source: Source, width: int, settings: GraftSettings) -> tuple[NewTensor, ...]:
    """The connector's tensors that depend on the tower's width, where widths differ; with `--connector new` all of them."""
    shapes = {name: part.shape for name, part in source.tensors.items()}
    old, channels = shapes["model.mining.key.1.weight"]
    hidden = shapes["model.multi_modal_projector.linear_1.weight"][0]
    norms = {"mining.query.0": width, "mining.key.0": channels, "mining.value.0": channels}
    linears = {
        "mining.query.1": (width, width),
        "mining.key.1": (width, channels),
        "mining.value.1": (width, channels),
        "multi_modal_projector.linear_1": (hidden, width),
        "multi_modal_projector.linear_2": (hidden, hidden),
    }
    if settings.connector == "keep":
        norms = {name: size for name, size in norms.items() if size == width != old}
        linears = {name: shape for name, shape in linears.items() if width in shape and width != old}
    return (
        *(NewTensor(f"{name}.{part}", (n,), fill=fill) for name, n in norms.items() for part, fill in NORM),
        *(NewTensor(f"{name}.weight", shape, shape[1]) for name, shape in linears.items()),
        *(NewTensor(f"{name}.bias", shape[:1], shape[1]) for name, shape in linears.items()),
    )
