"""LLaVA-1.5: CLIP ViT-L/14 at 336 px, hidden state -2 without the class token, a two-layer MLP, Vicuna.

The stock classes hold any CLIP tower, so a graft loads in plain transformers. The MLP's first layer takes the tower's width;
another width makes that layer new.
"""

import copy
from typing import TYPE_CHECKING, Any, Literal

from mllm_adapters.host import GraftSettings, Host, HostError, Json, NewTensor, Plan

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mgll.preprocessing import Preprocessing
    from mgll.tower import TowerHeader

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant."
    " The assistant gives helpful, detailed, and polite answers to the user's questions."
)
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
CLIP_L_336: Json = {
    "image_size": 336,
    "patch_size": 14,
    "hidden_size": 1024,
}  # what LlavaConfig assumes where nothing is said


def prompt(question: str) -> str:
    """The question in the conversation form that Vicuna was tuned on."""
    return f"{SYSTEM} USER: <image>\n{question} ASSISTANT:"


def answer(letter: str) -> str:
    """What follows the prompt; the space belongs to the letter's token."""
    return f" {letter}"


def plan(
    files: dict[str, Json], shapes: dict[str, tuple[int, ...]], donor: "TowerHeader", settings: GraftSettings
) -> Plan:
    """Configuration, processor and new connector tensors for this donor.

    Raises:
        HostError: when the feature layer lies beyond the donor's depth, or the donor does not see RGB.
    """
    from transformers import CLIPVisionConfig

    old = files["config.json"]
    vision = {**CLIPVisionConfig(**donor.config).to_dict(), "model_type": "clip_vision_model"}
    layer = old.get("vision_feature_layer", -2) if settings.feature_layer is None else settings.feature_layer
    select = settings.feature_select or old.get("vision_feature_select_strategy", "default")
    _check_donor(vision, layer)

    own = donor_grid(vision)
    grid = own if settings.tokens == "native" else donor_grid({**CLIP_L_336, **old.get("vision_config", {})})
    if settings.tokens == "pooled":
        grid, layer, select = 1, -1, "default"
    if settings.tokens == "resize_posemb":
        vision["image_size"] = grid * vision["patch_size"]
    features = grid * grid + (select == "full")

    new_files = copy.deepcopy(files)
    new_files["config.json"] |= {
        "vision_config": _saved(vision),
        "image_seq_length": features,
        "vision_feature_layer": layer,
        "vision_feature_select_strategy": select,
    }
    preprocessing = donor.preprocessing.model_copy(update={"size": vision["image_size"]})
    counts = {
        "patch_size": vision["patch_size"],
        # the processor counts the grid of the pixels; what the hook at run time adds or removes is told to it here
        "num_additional_image_tokens": 1 + grid * grid - donor_grid(vision) ** 2,
        "vision_feature_select_strategy": select,
    }
    _edit_processor(new_files, preprocessing, counts)
    return Plan(
        files=new_files,
        features=features,
        grid=grid,
        resize_positions=settings.tokens == "resize_posemb" and grid != own,
        resize_features=settings.tokens == "resize_features" and grid != own,
        pooled=donor.pooling if settings.tokens == "pooled" else None,
        new=_new_tensors(shapes, vision["hidden_size"] * (len(layer) if isinstance(layer, list) else 1), settings),
        unchanged_behaviour=_behaviour(files) == _behaviour(new_files),
    )


def donor_grid(vision: Json) -> int:
    """Patches along one side; a border narrower than a patch is not seen."""
    return int(vision["image_size"]) // int(vision["patch_size"])


def placeholders(files: dict[str, Json]) -> int:
    """What LlavaProcessor will put in for a square image, computed from the files alone."""
    processor: Json = {}
    for name in reversed(PROCESSOR_FILES):
        processor |= files.get(name, {})
    image = processor.get("image_processor") or files.get("preprocessor_config.json", {})
    size = image["crop_size"] if image.get("do_center_crop", True) else image["size"]
    side = size if isinstance(size, int) else size.get("height", size.get("shortest_edge"))
    count = (side // processor["patch_size"]) ** 2 + processor.get("num_additional_image_tokens", 0)
    return int(count) - (processor["vision_feature_select_strategy"] == "default")


def encode(tower: "nn.Module", config: Any, pixels: "Tensor") -> "Tensor":
    """The hidden states that the connector reads, class token included, layer after layer: [B, layers, 1 + tokens, width]."""
    import torch

    states = tower(pixels, output_hidden_states=True).hidden_states
    return torch.stack([states[layer] for layer in _layers(config)], dim=1)


def replay(config: Any, features: "Tensor") -> Any:
    """The tower's output object around `encode`'s result; the places of other layers are empty."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    states: list[Any] = [None] * (config.vision_config.num_hidden_layers + 1)
    for index, layer in enumerate(_layers(config)):
        states[layer] = features[:, index]
    return BaseModelOutputWithPooling(hidden_states=tuple(states))


def _layers(config: Any) -> list[int]:
    layer = config.vision_feature_layer
    return list(layer) if isinstance(layer, (list, tuple)) else [layer]


def resize(model: "nn.Module", grid: int) -> None:
    """From now on the tower hands on hidden states whose patches lie on a grid of this side."""
    import torch

    from mllm_adapters.token_policy import resize_grid

    def hook(_module: "nn.Module", _arguments: Any, output: Any) -> Any:
        output.hidden_states = tuple(
            None if state is None else torch.cat((state[:, :1], resize_grid(state[:, 1:], grid)), dim=1)
            for state in output.hidden_states
        )
        return output

    # a hook, not a wrapper: tensor names stay those of the stock class
    model.get_submodule(HOST.tower).register_forward_hook(hook)


def pool(model: "nn.Module", pooling: "Literal['cls', 'mean']") -> None:
    """From now on the tower hands on its pooled feature as the only image token."""
    import torch

    from mgll import tower as tower_file

    tower: Any = model.get_submodule(HOST.tower)

    def hook(_module: "nn.Module", _arguments: Any, output: Any) -> Any:
        pooled = tower_file.pool(output.last_hidden_state, tower, pooling)[:, None]
        token = torch.cat((pooled, pooled), dim=1)  # the first stands where LLaVA drops the class token
        output.hidden_states = tuple(None if state is None else token for state in output.hidden_states)
        return output

    tower.register_forward_hook(hook)


def _check_donor(vision: Json, layer: int | list[int]) -> None:
    depth = vision["num_hidden_layers"]
    for index in layer if isinstance(layer, list) else [layer]:
        if not -depth - 1 <= index <= depth:
            raise HostError(
                f"feature layer {index} does not exist: the donor has {depth} blocks, so {-depth - 1}..{depth}; set --feature-layer"
            )
    if vision["num_channels"] != 3:
        raise HostError(f"the donor takes {vision['num_channels']} channels, LLaVA's processor gives 3")
    if donor_grid(vision) < 1:
        raise HostError(
            f"the donor's patches ({vision['patch_size']} px) are larger than its image ({vision['image_size']} px)"
        )


def _new_tensors(shapes: dict[str, tuple[int, ...]], width: int, settings: GraftSettings) -> tuple[NewTensor, ...]:
    suffix = "multi_modal_projector.linear_1.weight"
    weight = next((shape for name, shape in shapes.items() if name.endswith(suffix)), None)
    if weight is None:
        raise HostError(f"no tensor named *{suffix}: is this a whole LLaVA checkpoint?")
    out, old_width = weight
    layers = {
        "linear_1": (width, width != old_width or settings.connector == "new"),
        "linear_2": (out, settings.connector == "new"),
    }
    names = [
        (f"multi_modal_projector.{layer}.{part}", part, fan)
        for layer, (fan, renew) in layers.items()
        if renew
        for part in ("weight", "bias")
    ]
    present = {name.partition("multi_modal_projector.")[2] for name in shapes}
    return tuple(
        NewTensor(name, (out, fan) if part == "weight" else (out,), fan)
        for name, part, fan in names
        if name.partition(".")[2] in present
    )


def _saved(config: Json) -> Json:
    """What of a CLIPVisionConfig belongs into config.json."""
    skip = {"transformers_version", "dtype", "torch_dtype", "_name_or_path", "architectures"}
    return {key: value for key, value in config.items() if key not in skip and value is not None}


def _edit_processor(files: dict[str, Json], preprocessing: "Preprocessing", counts: Json) -> None:
    """Write the donor's preprocessing where transformers reads it: nested if the directory nests it, else in a file of its own."""
    size, square = preprocessing.size, {"height": preprocessing.size, "width": preprocessing.size}
    image = {
        "image_processor_type": "LlavaImageProcessor",
        "do_convert_rgb": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_resize": True,
        "resample": 3,
        "size": {"shortest_edge": size} if preprocessing.resize == "crop" else square,
        "do_center_crop": preprocessing.resize == "crop",
        "crop_size": square,
        "do_pad": preprocessing.resize == "pad",
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
    processor = files.setdefault("processor_config.json", {"processor_class": "LlavaProcessor"})
    processor |= counts
    if "image_processor" in processor:
        processor["image_processor"] = image
    if "preprocessor_config.json" in files or "image_processor" not in processor:
        files["preprocessor_config.json"] = {**image, "processor_class": "LlavaProcessor"}


def _behaviour(files: dict[str, Json]) -> Json:
    """Everything outside the weights that decides what the language model is given for an image."""
    from transformers import CLIPVisionConfig

    config = files["config.json"]
    processor = files.get("processor_config.json", {})
    image = processor.get("image_processor") or files.get("preprocessor_config.json", {})
    keys = ("do_center_crop", "do_pad", "image_mean", "image_std")
    vision = CLIPVisionConfig(**{k: v for k, v in config.get("vision_config", {}).items() if k != "model_type"})
    return {
        "vision": _saved(vision.to_dict()),
        "layer": config.get("vision_feature_layer", -2),
        "select": config.get("vision_feature_select_strategy", "default"),
        "placeholders": placeholders(files),
        **{key: image.get(key) for key in keys},
    }


HOST = Host(
    name="llava",
    title="LLaVA-1.5",
    checkpoint="llava-hf/llava-1.5-7b-hf",
    model_type="llava",
    model_class="LlavaForConditionalGeneration",
    tower="model.vision_tower",
    tower_keys=r"(?:model\.)?vision_tower\.(?:vision_model\.)?",
    connector=("multi_modal_projector",),
    connector_keys=r"(?:model\.)?multi_modal_projector\.",
    lora_targets=r".*language_model.*\.(q|k|v|o|gate|up|down)_proj",
    prompt=prompt,
    answer=answer,
    plan=plan,
    placeholders=placeholders,
    encode=encode,
    replay=replay,
    resize=resize,
    pool=pool,
)
