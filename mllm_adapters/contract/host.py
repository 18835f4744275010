"""What an MLLM family must say about itself; every host file fills in one `Host`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.terms import GraftSettings, NewTensor, Source

if TYPE_CHECKING:
    from torch import Tensor, nn


from typing import TYPE_CHECKING

from mgll.tower.file import TowerHeader
from mllm_adapters.contract.prompts import EncodedPrompts
from mllm_adapters.contract.tower_spec import TowerSpec


@dataclass(frozen=True)
class Plan:
    """What grafting one donor onto one host comes to, before a byte is written.

    Attributes:
        files: JSON files of the directory by name, as they will be written; a file not named here stays.
        features: vectors that the language model is given for one image.
        tower: how `Host.shim` runs the donor; None where the host's own class builds and reads it.
        positions: side of the grid to which position embeddings, where the donor has a table of them, are interpolated (policy
            `resize_posemb`); None: left alone.
        new: tensors to initialise.
        drop: names of further tensors of the host that go.
        unchanged_behaviour: True when settings and preprocessing are the host's own, so equal weights give equal logits.
    """

    files: dict[str, Json]
    features: int
    tower: TowerSpec | None = None
    positions: int | None = None
    new: tuple[NewTensor, ...] = ()
    drop: tuple[str, ...] = ()
    unchanged_behaviour: bool = False


@dataclass(frozen=True)
class Host:
    """Spec sheet of an MLLM family.

    Attributes:
        name: the registry's name.
        title: the family's own name.
        checkpoint: hub id that is grafted when the user names none.
        model_type: `model_type` in config.json, as it is written.
        model_class: class in transformers, or `module:class` of our own.
        tower: path of the vision tower in the model.
        tower_keys: regex at the start of the tower's tensor names in files, legacy names included; what follows is the
            tensor's name in the tower.
        connector: names of the modules between tower and language model; they are trained in full.
        lora_targets: regex, matched against whole module names, of the language model's layers that LoRA adapts.
        prompt: the question in the host's own conversation form, with its image marker.
        answer: the text that follows the prompt when the answer is this letter.
        plan: from checkpoint, donor header and settings to a `Plan`; raises `HostError` when the host cannot take the donor.
        placeholders: image tokens that the processor of these JSON files puts into a prompt, for a square image.
        geometry: `tower, connector, image tokens` in words, for `swap --list`.
        open: reads a checkpoint in any layout in which the family is published; None: files and names are written as they are.
        stock_towers: `model_type` of the towers that transformers' own class builds and reads as they are meant to be read; a graft
            of such a tower's grid tokens loads in plain transformers.
        parts: further checkpoints that the published one leaves out, by the name that `--part` gives them, with their hub ids.
        shim: from `Plan.tower` and the model's configuration to the module that stands at `tower` with the donor in it as
            `donor`, for donors, hosts or policies for which the class cannot do it.
        processor: loads the processor of a directory; None: `AutoProcessor`.
        encode: from tower, model configuration and the image inputs of one image to all that the model uses of the tower's
            output, one tensor [rows, ...]; None: nothing of it can be kept.
        replay: from tower and model configuration to the module that stands in the tower's place while it is fed `encode`'s
            result, so that a frozen tower runs once an image.
        first_linear: name of the connector's linear layer that reads the tower's tokens with nothing before it; a warm graft
            multiplies its map into it.
        bridges: True where the shim can hold the map of a warm graft behind the donor (`TowerSpec.bridge`).
        own_positions: from the model and encoded prompts to the positions of the first prompt along several axes, [axes, length],
            where the model derives them itself; None: they count from the first token.
        dynamic: True when the number of image tokens depends on the image's size.
        second_text: names of the inputs of a second text encoder, which reads the prompt beside the language model.
        owns: whether a config.json is this family's, where another writes the same `model_type`.
        ends_with_eos: True when the end-of-sequence token follows the answer and is trained with it.
        marker: the part of `prompt` that stands for the image; it is left out of a question that has none. Empty: the family
            answers questions about images only.
    """

    name: str
    title: str
    checkpoint: str
    model_type: str
    model_class: str
    tower: str
    tower_keys: str
    connector: tuple[str, ...]
    lora_targets: str
    prompt: Callable[[str], str]
    answer: Callable[[str], str]
    plan: Callable[[Source, TowerHeader, GraftSettings], Plan]
    placeholders: Callable[[dict[str, Json]], int]
    geometry: tuple[str, str, str]
    open: Callable[[Path, Mapping[str, Path]], Source] | None = None
    stock_towers: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    shim: "Callable[[TowerSpec, Any], nn.Module] | None" = None
    processor: Callable[[Path], Any] | None = None
    encode: "Callable[[nn.Module, Any, dict[str, Tensor]], Tensor] | None" = None
    replay: "Callable[[nn.Module, Any], nn.Module] | None" = None
    first_linear: str | None = None
    bridges: bool = False
    own_positions: "Callable[[Any, EncodedPrompts], Tensor] | None" = None
    dynamic: bool = False
    second_text: tuple[str, ...] = ()
    owns: Callable[[Json], bool] | None = None
    ends_with_eos: bool = True
    marker: str = ""


@dataclass(frozen=True)
class LoadedHost:
    """A model with all that is needed to ask it.

    Attributes:
        model: an instance of the host's transformers class in evaluation mode (LoRA layers in place where there are any).
        processor: of the same directory.
        host: the family's spec.
        directory: what was loaded.
    """

    model: Any
    processor: Any
    host: Host
    directory: Path
