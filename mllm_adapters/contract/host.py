"""What an MLLM family says about itself: every host file holds one subclass of `Host`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mgll.tower.file import TowerHeader
from mgll.weights.model_folder import read_json
from mllm_adapters.checkpoints.json_files import Json, json_files
from mllm_adapters.checkpoints.processor_files import check_processor_files
from mllm_adapters.checkpoints.tensors import read_checkpoint
from mllm_adapters.contract.prompts import EncodedPrompts
from mllm_adapters.contract.terms import GraftSettings, HostError, NewTensor, Source
from mllm_adapters.contract.tower_spec import TowerSpec

# listing and planning need neither torch nor transformers, so nothing here imports them before it runs a model
if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Plan:
    """What changes when one donor is grafted onto one host, known before a byte is written.

    Attributes:
        files: JSON files of the directory by name, as they will be written; a file that is not named here stays as it is.
        features: number of vectors that the language model is given for one image.
        tower: how `Host.build_tower` runs the donor; None where the host's own class builds and reads the donor.
        positions: side of the grid to which the donor's position embeddings are interpolated (policy `resize_posemb`); None
            leaves them as they are.
        new: tensors to initialise.
        drop: names of the host's tensors that are removed besides those of its tower.
        unchanged_behaviour: True when settings and preprocessing are the host's own, so that equal weights give equal logits.
    """

    files: dict[str, Json]
    features: int
    tower: TowerSpec | None = None
    positions: int | None = None
    new: tuple[NewTensor, ...] = ()
    drop: tuple[str, ...] = ()
    unchanged_behaviour: bool = False


class Host(ABC):
    """An MLLM family: its facts are class attributes, and its methods say how a tower is put into it. A host holds no state.

    A subclass with a `name` is a family: it gives every fact that has no default here, and every abstract method. A subclass
    without a name holds methods that several families share.

    Attributes:
        name: name of the family in the registry and in commands.
        title: name of the family in messages and reports.
        family: name under which `swap --list` shows it together with its relatives.
        checkpoint: hub id of the checkpoint that is grafted when the user names none.
        model_type: `model_type` in the config.json that is written.
        model_class: name of the model's class in transformers, or `module:class` of a class in this project.
        tower: path of the vision tower in the model.
        tower_keys: regex for the start of the tower's tensor names in files, legacy spellings included; the rest of such a name is
            the tensor's name in the tower.
        connector: names of the modules between tower and language model; fine-tuning trains them in full.
        lora_targets: regex for the whole names of the language model's layers that LoRA adapts.
        geometry: tower, connector and number of image tokens in words, for `swap --list`.
        stock_towers: `model_type` of the towers that transformers' own class builds and reads correctly; a graft of such a tower's
            grid loads in plain transformers.
        parts: further checkpoints that the published one leaves out: hub ids by the name that `--part` gives them.
        tower_part: name in `parts` of the host's own tower, which a graft needs only if it is warm.
        makers_types: values of `model_type` in the makers' own layout, where the family is published in that too.
        first_linear: name of the connector's linear layer that is the first to read the tower's tokens; a warm graft multiplies its
            map into this layer. None: the connector starts with something else.
        bridges: True where a grafted tower can hold the map of a warm graft behind the donor (`TowerSpec.bridge`).
        position_axes: number of axes along which the model counts the positions of tokens. Where there are several, the model
            derives the positions itself and `own_positions` gives them.
        dynamic: True when the number of image tokens depends on the size of the image.
        second_text: names of the inputs of a second text encoder, which reads the prompt beside the language model.
        replaces_image_token: True where the model puts another token in the image token's place before it looks up embeddings, so
            that the image token needs no row there.
        whole_prompts: True where prompts that begin alike cannot share the pass over their start: a token sees what stands
            behind it, or the model knows no mask of trees.
        ends_with_eos: True when the end-of-sequence token follows the answer and is trained with it.
        marker: the part of `prompt` that stands for the image; a question without an image is asked without it. Empty: the family
            answers questions about images only.
        preamble: the part of `prompt` that is said once, at the start of a conversation.
    """

    name: str
    title: str
    family: str
    checkpoint: str
    model_type: str
    model_class: str
    tower: str
    tower_keys: str
    connector: tuple[str, ...]
    lora_targets: str
    geometry: tuple[str, str, str]
    stock_towers: tuple[str, ...] = ()
    parts: Mapping[str, str] = MappingProxyType({})
    tower_part: str | None = None
    makers_types: tuple[str, ...] = ()
    first_linear: str | None = None
    bridges: bool = False
    position_axes: int = 1
    dynamic: bool = False
    second_text: tuple[str, ...] = ()
    replaces_image_token: bool = False
    whole_prompts: bool = False
    ends_with_eos: bool = True
    marker: str = ""
    preamble: str = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        lacking = [fact for fact in Host.__annotations__ if not hasattr(cls, fact)]
        if "name" in vars(cls) and lacking:
            raise TypeError(f"the host {cls.__name__} does not give its {', '.join(lacking)}")

    @abstractmethod
    def prompt(self, question: str) -> str:
        """The question in the family's own conversation form, with its image marker."""

    @abstractmethod
    def answer(self, letter: str) -> str:
        """The text that follows the prompt when the answer is this letter."""

    @abstractmethod
    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """What changes in a checkpoint when this donor is grafted under these settings.

        Raises:
            HostError: if the family cannot take this donor, or not under these settings.
        """

    @abstractmethod
    def placeholders(self, files: dict[str, Json]) -> int:
        """Number of image tokens that the processor of these JSON files puts into a prompt for a square image."""

    def features(self, files: dict[str, Json]) -> int:
        """Number of vectors that the untouched model of these JSON files is given for one image.

        Default: as many as there are image tokens, for families in which both come from one number.
        """
        return self.placeholders(files)

    @abstractmethod
    def build_tower(self, spec: TowerSpec, config: Any) -> "nn.Module":
        """The module that stands at `tower` when `Plan.tower` is set; it holds the donor as its submodule `donor`.

        Args:
            spec: how to run the donor.
            config: the model's configuration.
        """

    def open(self, directory: Path, parts: Mapping[str, Path]) -> Source:
        """Read a checkpoint in any layout in which the family is published.

        Args:
            directory: the checkpoint.
            parts: directories of further checkpoints, by their names in `Host.parts`.

        Raises:
            FormatError: if the checkpoint is damaged or incomplete.
            HostError: if it is of another family or a kind that is not built here, or needs a part that is not given.
        """
        if self.in_makers_layout(read_json(directory / "config.json")):
            return self.read_makers(directory, parts)
        return self.read_native(directory)

    def read_makers(self, directory: Path, parts: Mapping[str, Path]) -> Source:
        """Read a checkpoint in the makers' own layout (`in_makers_layout`); arguments and errors are those of `open`."""
        raise NotImplementedError(f"{type(self).__name__} names a layout of its makers, and does not read it")

    def in_makers_layout(self, config: Json) -> bool:
        """Whether a config.json is of the makers' own layout, which `read_makers` reads, and not of the one that is written."""
        return config.get("model_type") in self.makers_types

    def left_out(self, directory: Path, parts: Mapping[str, Path], own_tower: bool) -> Mapping[str, str]:
        """What a checkpoint leaves out: hub ids or folders by their names in `Host.parts`. Default: nothing.

        Args:
            directory: the checkpoint.
            parts: the parts that are already found; one may say what else is left out.
            own_tower: whether the weights of its own tower are needed.

        Raises:
            FormatError: if the checkpoint is damaged or incomplete.
        """
        return {}

    def read_native(self, directory: Path) -> Source:
        """Read a checkpoint in the layout that is written: files and names stay as they are.

        Raises:
            FormatError: if it is damaged or incomplete.
            HostError: if it is of another family.
        """
        files = json_files(directory)
        found = files["config.json"].get("model_type")
        if found != self.model_type:
            raise HostError(
                f"{directory} is a {found!r} checkpoint, {self.title} needs {self.model_type!r}, such as {self.checkpoint}; choose"
                " another --model or checkpoint"
            )
        check_processor_files(directory, self.checkpoint)
        return Source(directory, files, read_checkpoint(directory))

    def owns(self, config: Json) -> bool:
        """Whether a config.json is this family's where several families write the same `model_type`.

        Default: False; a config.json that no family claims belongs to the first of them in the registry.
        """
        return False

    def processor(self, directory: Path) -> Any:
        """Load the processor of a directory. Default: what `AutoProcessor` finds there."""
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(directory)

    def encode(self, tower: "nn.Module", config: Any, inputs: "dict[str, Tensor]") -> "Tensor | None":
        """Everything that the model uses of the tower's output, so that a frozen tower runs only once for each image.

        Args:
            tower: the module at `tower`.
            config: the model's configuration.
            inputs: the image inputs of one image.

        Returns:
            One tensor [rows, ...], which `replay` turns back into the tower's output. None, the default: the output cannot be kept,
            and the tower runs every time.
        """
        return None

    def replay(self, tower: "nn.Module", config: Any) -> "nn.Module":
        """The module that stands in the tower's place while it is fed the result of `encode` as pixels.

        Default: the tower itself, which is fed pixels because `encode` keeps nothing.
        """
        return tower

    def behind_prompt(self, name: str, last: Any) -> Any:
        """What an input as long as the text holds for a token behind the prompt, such as an answer's. Default: 0.

        Args:
            name: the input's name.
            last: what it holds for the prompt's last token.
        """
        return 0

    def own_positions(self, model: Any, encoded: EncodedPrompts) -> "Tensor":
        """Positions of the tokens of the first prompt: [position_axes, length]. Default: counted from the first token."""
        import torch

        return torch.arange(len(encoded.ids[0]))[None]


@dataclass(frozen=True)
class LoadedHost:
    """A model with all that is needed to ask it.

    Attributes:
        model: an instance of `Host.model_class` in evaluation mode, with LoRA layers where the directory has them.
        processor: the processor of the directory.
        host: the family.
        directory: the directory from which the model was loaded.
        dtype: name of the dtype in which most of its weights are.
        note: what to tell the user: a dtype that was chosen and is not the checkpoint's, parts that lie elsewhere or have no
            fused attention.
    """

    model: Any
    processor: Any
    host: Host
    directory: Path
    dtype: str = "float32"
    note: str = ""
