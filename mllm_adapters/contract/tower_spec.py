"""How a donor is run inside a host whose own class cannot hold it. Imports no torch for a CLIP donor."""

from pydantic import Field, model_validator

from mgll.images.preprocessing import Preprocessing
from mgll.tower.config import CLIP, CLIP_DEFAULTS, Architecture, Pooling, at_size
from mgll.tower.file import TowerHeader, tower_shapes
from mgll.tower.positions import POSITION_TABLES
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.terms import GraftSettings, HostError
from mllm_adapters.contract.token_policy import TokenPolicy

Triple = tuple[float, float, float]


class TowerSpec(Architecture):
    """How a donor is run inside a host; it is stored in `graft.json`.

    Attributes:
        pooling: the donor's output that was trained against texts.
        tokens: the token policy.
        grid: side of the grid that is passed on.
        layer: index of the hidden state that is passed on; -1 is the last.
        post_norm: apply the donor's last norm to this hidden state.
        class_token: pass the class token on, before the grid. Register tokens are never passed on.
        bridge: width of the host's own tower, to which a linear layer maps the tokens; None: the tokens keep their width.
        scale, shift: `x * scale + shift` turns pixels normalised for the host into pixels normalised for the donor; None: the
            processor already normalises for the donor.
    """

    pooling: Pooling = "cls"
    tokens: TokenPolicy = "native"
    grid: int = Field(gt=0)
    layer: int = -1
    post_norm: bool = False
    class_token: bool = False
    bridge: int | None = Field(None, gt=0)
    scale: Triple | None = None
    shift: Triple | None = None

    @model_validator(mode="after")
    def _can_be_run(self) -> "TowerSpec":
        depth = self.geometry.depth
        if not 1 <= abs(self.layer) <= depth:
            raise ValueError(f"layer {self.layer} does not exist: the donor has {depth} blocks")
        return self

    @property
    def count(self) -> int:
        """Number of tokens that the tower passes on."""
        return 1 if self.tokens == "pooled" else self.grid**2 + self.class_token

    @property
    def width(self) -> int:
        """Width of a token that is passed on."""
        return self.bridge or self.donor_width

    @property
    def donor_width(self) -> int:
        """Width of the donor's tokens."""
        return self.geometry.width

    @property
    def size(self) -> int:
        """Side of the donor's input in pixels."""
        return self.geometry.size

    def positions(self, donor: Architecture) -> int | None:
        """Side of the grid to which the donor's position embeddings are interpolated; None where the donor runs at its own size."""
        return self.geometry.grid if self.size != donor.geometry.size else None

    def stand_in(self) -> Json:
        """Configuration of a small CLIP tower of this width, which the host's class builds before the donor takes its place."""
        return {
            "model_type": CLIP,
            "hidden_size": self.width,
            "intermediate_size": self.width,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": self.size,
            "patch_size": self.geometry.stride,
        }


def tower_spec(
    donor: TowerHeader,
    settings: GraftSettings,
    host_grid: int,
    layer: int = -1,
    post_norm: bool = False,
    class_token: bool = False,
    host_normalisation: tuple[Triple, Triple] | None = None,
    host_width: int | None = None,
) -> TowerSpec:
    """How this donor is run under the user's settings.

    Args:
        donor: header of the tower file.
        settings: the user's settings.
        host_grid: side of the grid of the host's own tower.
        layer: index of the hidden state that is read where the user chooses none.
        post_norm: whether the host reads the last hidden state after the tower's last norm.
        class_token: whether the class token is read where the user does not choose and the donor has one.
        host_normalisation: mean and std of the pixels that arrive; None: the processor normalises for the donor.
        host_width: width of the host's own tower, for the bridge of a warm graft; None where the host takes none.

    Raises:
        HostError: if the donor lacks the layer or the class token, does not see RGB, has no whole patch, or takes no other size.
    """
    check_donor(donor)
    layer = feature_layer(donor, settings, layer)
    resized = at_grid(donor, host_grid) if settings.tokens == "resize_posemb" else donor
    scale, shift = renormalisation(donor.preprocessing, host_normalisation)
    return TowerSpec(
        config=resized.config,
        measured=resized.measured,
        pooling=donor.pooling,
        tokens=settings.tokens,
        grid=host_grid if settings.tokens == "resize_features" else resized.geometry.grid,
        layer=layer,
        post_norm=post_norm and layer in (-1, donor.geometry.depth),
        class_token=hands_class_token_on(donor, settings, class_token),
        bridge=host_width if settings.warm else None,
        scale=scale,
        shift=shift,
    )


def check_donor(donor: Architecture) -> None:
    """Raise `HostError` unless the donor sees RGB and its image holds a whole patch."""
    channels = (CLIP_DEFAULTS | donor.config)["num_channels"]
    if channels != 3:
        raise HostError(f"the donor takes {channels} channels, the hosts' processors give 3")
    found = donor.geometry
    if found.grid < 1:
        raise HostError(f"the donor's patches ({found.stride} px) are larger than its image ({found.size} px)")


def feature_layer(donor: Architecture, settings: GraftSettings, host_layer: int) -> int:
    """Index of the hidden state that is read: the user's choice or else the host's; a donor with one hidden state gives that one.

    Raises:
        HostError: if the donor has no such hidden state.
    """
    depth = donor.geometry.depth
    if depth == 1 and settings.feature_layer in (None, -1, 1):
        return -1
    layer = host_layer if settings.feature_layer is None else settings.feature_layer
    if depth == 1:
        raise HostError(
            f"feature layer {layer} does not exist: this donor hands on its last grid only; leave --feature-layer away"
        )
    if not 1 <= abs(layer) <= depth:
        raise HostError(
            f"feature layer {layer} does not exist: the donor has {depth} blocks, so {-depth}..-1 or 1..{depth};"
            " set --feature-layer"
        )
    return layer


def hands_class_token_on(donor: Architecture, settings: GraftSettings, of_host: bool) -> bool:
    """Whether the class token is passed on: the user's choice, or else the host's habit where the donor has a class token.

    Raises:
        HostError: if the user asks for the class token of a donor that has none.
    """
    if settings.feature_select == "full" and not donor.geometry.class_token:
        raise HostError(f"the donor ({donor.kind}) has no class token to keep; leave --feature-select full away")
    return donor.geometry.class_token and (
        of_host if settings.feature_select is None else settings.feature_select == "full"
    )


def at_grid(donor: Architecture, grid: int) -> Architecture:
    """The donor on images of the size that gives a grid of this side; learned positions are interpolated in the weights.

    Raises:
        HostError: if tensors other than the positions depend on the size of the image.
    """
    old = donor.geometry
    if grid == old.grid:
        return donor
    size = grid * old.stride
    config = at_size(donor.config, size)
    new = old.model_copy(update={"size": size, "grid": grid})
    if donor.kind != CLIP:
        _check_size(donor.config, config)
    return Architecture(config=config, measured=new if donor.measured else None)


def _check_size(old: Json, new: Json) -> None:
    way_out = "use --tokens resize_features"
    try:
        before, after = tower_shapes(old), tower_shapes(new)
    except ValueError as error:
        raise HostError(
            f"the donor does not run on the image that the host's grid asks for ({error}); {way_out}"
        ) from None
    bound = sorted(name for name in before if before[name] != after.get(name) and name not in POSITION_TABLES)
    if bound:
        raise HostError(f"the donor runs at its own size only: {', '.join(bound[:3])} depend on it; {way_out}")


def renormalisation(donor: Preprocessing, host: tuple[Triple, Triple] | None) -> tuple[Triple | None, Triple | None]:
    """Scale and shift from pixels with the host's mean and std to pixels with the donor's; (None, None) where they are equal."""
    if host is None or host == (donor.mean, donor.std):
        return None, None
    pairs = list(zip(*host, donor.mean, donor.std, strict=True))
    scale = tuple(host_std / std for _, host_std, _, std in pairs)
    shift = tuple((host_mean - mean) / std for host_mean, _, mean, std in pairs)
    return scale, shift  # type: ignore[return-value]
