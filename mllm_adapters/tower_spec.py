"""How a donor is run inside a host whose own class cannot hold it. Imports no torch."""

from typing import TYPE_CHECKING, Literal

from mgll.formats import Row
from mgll.tower import CLIP_DEFAULTS
from mllm_adapters.host import GraftSettings, HostError, Json
from mllm_adapters.token_policy import TokenPolicy

if TYPE_CHECKING:
    from mgll.preprocessing import Preprocessing
    from mgll.tower import TowerHeader

Triple = tuple[float, float, float]


class TowerSpec(Row):
    """How a donor is run inside a host; stands in `graft.json`.

    Attributes:
        config: keyword arguments of `CLIPVisionConfig`.
        pooling: which output of the donor was trained against texts.
        tokens: the token policy.
        grid: side of the grid that is handed on.
        layer: hidden state that is handed on; -1 is the last.
        post_norm: apply the donor's last norm to it.
        class_token: hand the class token on as well, first.
        bridge: width of the host's own tower, to which a linear layer takes the tokens; None: they are handed on as they are.
        scale, shift: `x * scale + shift` turns the host's normalised pixels into the donor's; None: they are the donor's already.
    """

    config: Json
    pooling: Literal["cls", "mean"] = "cls"
    tokens: TokenPolicy = "native"
    grid: int
    layer: int = -1
    post_norm: bool = False
    class_token: bool = False
    bridge: int | None = None
    scale: Triple | None = None
    shift: Triple | None = None

    @property
    def count(self) -> int:
        """Tokens that the tower hands on."""
        return 1 if self.tokens == "pooled" else self.grid**2 + self.class_token

    @property
    def width(self) -> int:
        """Width of a token that is handed on."""
        return self.bridge or self.donor_width

    @property
    def donor_width(self) -> int:
        """Width of the donor's tokens."""
        return int((CLIP_DEFAULTS | self.config)["hidden_size"])

    @property
    def size(self) -> int:
        """Side of the donor's input in pixels."""
        return int((CLIP_DEFAULTS | self.config)["image_size"])


def tower_spec(
    donor: "TowerHeader",
    settings: GraftSettings,
    host_grid: int,
    layer: int = -1,
    post_norm: bool = False,
    class_token: bool = False,
    host_normalisation: tuple[Triple, Triple] | None = None,
    host_width: int | None = None,
) -> TowerSpec:
    """The donor under the user's token policy.

    Args:
        donor: the tower file's header.
        settings: the user's.
        host_grid: side of the grid of the host's own tower.
        layer: which hidden state the host reads, where the user names none.
        post_norm: whether the host reads it after the tower's last norm, where it is the last one.
        class_token: whether the host reads the class token, where the user says nothing.
        host_normalisation: mean and std of the pixels that arrive, where they are not the donor's own.
        host_width: width of the host's own tower, for the bridge of a warm graft; None where the host takes none.

    Raises:
        HostError: if the donor has no such layer, does not see RGB, or has no whole patch.
    """
    config, policy = dict(donor.config), settings.tokens
    vision = CLIP_DEFAULTS | config
    check_donor(vision, settings.feature_layer if settings.feature_layer is not None else layer)
    grid = own = vision["image_size"] // vision["patch_size"]
    if policy in ("resize_features", "resize_posemb"):
        grid = host_grid
    if policy == "resize_posemb" and grid != own:
        config["image_size"] = grid * vision["patch_size"]
    layer = layer if settings.feature_layer is None else settings.feature_layer
    scale, shift = renormalisation(donor.preprocessing, host_normalisation)
    return TowerSpec(
        config=config,
        pooling=donor.pooling,
        tokens=policy,
        grid=grid,
        layer=layer,
        post_norm=post_norm and layer in (-1, vision["num_hidden_layers"]),
        class_token=class_token if settings.feature_select is None else settings.feature_select == "full",
        bridge=host_width if settings.warm else None,
        scale=scale,
        shift=shift,
    )


def check_donor(config: Json, layer: int) -> None:
    """Raise `HostError` unless the donor has that hidden state, sees RGB, and its image holds a whole patch."""
    vision = CLIP_DEFAULTS | config
    depth = vision["num_hidden_layers"]
    if not -depth - 1 <= layer <= depth:
        raise HostError(
            f"feature layer {layer} does not exist: the donor has {depth} blocks, so {-depth - 1}..{depth}; set --feature-layer"
        )
    if vision["num_channels"] != 3:
        raise HostError(f"the donor takes {vision['num_channels']} channels, the hosts' processors give 3")
    if vision["image_size"] < vision["patch_size"]:
        raise HostError(
            f"the donor's patches ({vision['patch_size']} px) are larger than its image ({vision['image_size']} px)"
        )


def renormalisation(donor: "Preprocessing", host: tuple[Triple, Triple] | None) -> tuple[Triple | None, Triple | None]:
    """Scale and shift from pixels with the host's mean and std to pixels with the donor's; (None, None) where they are equal."""
    if host is None or host == (donor.mean, donor.std):
        return None, None
    pairs = list(zip(*host, donor.mean, donor.std, strict=True))
    scale = tuple(host_std / std for _, host_std, _, std in pairs)
    shift = tuple((host_mean - mean) / std for host_mean, _, mean, std in pairs)
    return scale, shift  # type: ignore[return-value]
