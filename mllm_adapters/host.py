"""What an MLLM family must say about itself; every host file fills in one `Host`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mgll.formats import Row
from mllm_adapters.token_policy import TokenPolicy

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mgll.tower import TowerHeader

Json = dict[str, Any]


class HostError(ValueError):
    """A checkpoint, tower or setting that does not fit the host; the message says what was found and what to do."""


class GraftSettings(Row):
    """What the user chooses about a graft.

    Attributes:
        tokens: the token policy (see `mllm_adapters.token_policy`).
        feature_layer: which hidden state of the tower the connector reads (-1 is the last); None keeps the host's.
        feature_select: `default` drops the class token, `full` keeps it; None keeps the host's.
        connector: `keep` the host's weights wherever they fit, or make all of them `new`.
        seed: of newly initialised tensors.
    """

    tokens: TokenPolicy = "native"
    feature_layer: int | None = None
    feature_select: Literal["default", "full"] | None = None
    connector: Literal["keep", "new"] = "keep"
    seed: int = 0


@dataclass(frozen=True)
class NewTensor:
    """A tensor that is initialised afresh, uniformly within 1 / sqrt(fan_in) as `torch.nn.Linear` does.

    Attributes:
        suffix: end of the tensor's name in the host's files.
        shape: its new shape.
        fan_in: inputs of the layer.
    """

    suffix: str
    shape: tuple[int, ...]
    fan_in: int


@dataclass(frozen=True)
class Plan:
    """What grafting one donor onto one host comes to, before a byte is written.

    Attributes:
        files: JSON files of the directory by name, as they will be written; a file not named here stays.
        features: vectors that the connector hands to the language model for one image.
        grid: side of the feature grid after the token policy.
        resize_positions: True when the position embeddings are to be interpolated to `grid` (policy `resize_posemb`).
        resize_features: True when the grid is resized at run time, which needs `mllm_adapters.load`.
        pooled: which feature of the tower is the one image token, when `mllm_adapters.load` is to pool it (policy `pooled`).
        new: tensors to initialise.
        unchanged_behaviour: True when settings and preprocessing are the host's own, so equal weights give equal logits.
    """

    files: dict[str, Json]
    features: int
    grid: int
    resize_positions: bool = False
    resize_features: bool = False
    pooled: "Literal['cls', 'mean'] | None" = None
    new: tuple[NewTensor, ...] = ()
    unchanged_behaviour: bool = False


@dataclass(frozen=True)
class Host:
    """Spec sheet of an MLLM family.

    Attributes:
        name: the registry's name.
        title: the family's own name.
        checkpoint: hub id that is grafted when the user names none.
        model_type: `model_type` in the checkpoint's config.json.
        model_class: class in transformers.
        tower: path of the vision tower in the model.
        tower_keys: regex at the start of the tower's tensor names in files, legacy names included; what follows is the
            tensor's name in `CLIPVisionModel`.
        connector: names of the modules between tower and language model; they are trained in full.
        connector_keys: regex at the start of the connector's tensor names in files.
        lora_targets: regex, matched against whole module names, of the language model's layers that LoRA adapts.
        prompt: the question in the host's own conversation form, with its image marker.
        answer: the text that follows the prompt when the answer is this letter.
        ends_with_eos: True when the end-of-sequence token follows the answer and is trained with it.
        plan: from the directory's JSON files, tensor shapes by file name, donor header and settings to a `Plan`; raises `HostError`
            when the host cannot take the donor.
        placeholders: image tokens that the processor of these JSON files puts into a prompt, for a square image.
        encode: from tower, model configuration and pixels [B, 3, H, W] to all that the model uses of the tower's output,
            one tensor [B, ...].
        replay: from model configuration and `encode`'s result to the tower's output object, so that a frozen tower runs
            once an image.
        resize: makes a loaded tower hand on a grid of another side (policy `resize_features`); None: not possible.
        pool: makes a loaded tower hand on one pooled feature (policy `pooled`); None: not possible.
    """

    name: str
    title: str
    checkpoint: str
    model_type: str
    model_class: str
    tower: str
    tower_keys: str
    connector: tuple[str, ...]
    connector_keys: str
    lora_targets: str
    prompt: Callable[[str], str]
    answer: Callable[[str], str]
    plan: "Callable[[dict[str, Json], dict[str, tuple[int, ...]], TowerHeader, GraftSettings], Plan]"
    placeholders: Callable[[dict[str, Json]], int]
    encode: "Callable[[nn.Module, Any, Tensor], Tensor]"
    replay: "Callable[[Any, Tensor], Any]"
    resize: "Callable[[nn.Module, int], None] | None" = None
    pool: "Callable[[nn.Module, Literal['cls', 'mean']], None] | None" = None
    ends_with_eos: bool = True
