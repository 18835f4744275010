"""A warm graft: the host's connector is given the donor's tokens as if they were the old tower's.

On unlabelled images both towers are run, and a linear map from the donor's tokens to the old tower's at the same place is fitted in
closed form (ridge regression). Where the connector starts with a linear layer that reads the tokens, the map is multiplied into it;
elsewhere it becomes a `bridge` behind the donor. The language model is never loaded, and of the tokens only sums are kept, so
memory does not grow with the number of images.
"""

import math
import random
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm
from transformers import AutoModel

from mgll.formats import FormatError
from mgll.images.preprocessing import ImageError, Preprocessing, open_image, to_square
from mgll.tower import file as tower_file
from mgll.tower.positions import POSITION_TABLES, resize_positions
from mgll.weights.reading import misfits
from mllm_adapters.checkpoints.tensors import read_tensor
from mllm_adapters.contract.graft_record import WarmStart
from mllm_adapters.contract.host import Host, Plan
from mllm_adapters.contract.terms import GraftSettings, HostError, NewTensor, Source
from mllm_adapters.contract.token_policy import resize_grid
from mllm_adapters.graft.folder import write_files
from mllm_adapters.graft.weights import grafted_prefix
from mllm_adapters.hosts.registry import HOSTS, get_host
from mllm_adapters.loading.load import model_class

#: Strengths of the ridge among which images left out choose, in units of the donor tokens' mean variance.
STRENGTHS = (1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
HELD_OUT, FEWEST = 5, 10  # one image in so many; fewer images would leave none to choose by
BATCH = 8
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}


def images_in(folder: Path, limit: int, seed: int = 0) -> list[Path]:
    """At most `limit` images of a folder and its subfolders, drawn with this seed.

    Raises:
        HostError: if there are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise HostError(f"--warm {folder}: no images in it ({', '.join(sorted(SUFFIXES))})")
    return sorted(random.Random(seed).sample(found, min(limit, len(found))))


def warm_plan(host: Host, source: Source, plan: Plan, settings: GraftSettings) -> Plan:
    """The plan with those tensors in it that the fitted map will determine: the connector's first linear layer, or the bridge.

    Raises:
        HostError: if the host can take no such map, or its connector is to be new.
    """
    if settings.connector == "new":
        raise HostError("a warm graft starts from the host's own connector; leave --connector new away, or --warm")
    if host.first_linear:
        shapes = {name: part.shape for name, part in source.tensors.items()} | {t.name: t.shape for t in plan.new}
        weight = next(shape for name, shape in reversed(shapes.items()) if name.endswith(f"{host.first_linear}.weight"))
        if not any(name.endswith(f"{host.first_linear}.bias") for name in shapes):
            raise HostError(f"{host.first_linear} has no bias that could take the fitted map's; graft without --warm")
        name = host.first_linear
    elif host.bridges and plan.tower and plan.tower.bridge:
        name, weight = f"{_tower_prefix(host, source)}bridge", (plan.tower.bridge, plan.tower.donor_width)
    else:
        able = [name for name in HOSTS if get_host(name).first_linear or get_host(name).bridges]
        raise HostError(
            f"{host.title} has no place for a linear map of the donor's tokens; graft without --warm"
            f" (hosts that have one: {', '.join(able)})"
        )
    fitted = (NewTensor(f"{name}.weight", weight, weight[1]), NewTensor(f"{name}.bias", weight[:1], weight[1]))
    kept = tuple(tensor for tensor in plan.new if tensor.name not in {t.name for t in fitted})
    return replace(plan, new=kept + fitted)


def fit(
    host: Host, source: Source, encoder: Path, plan: Plan, images: Sequence[Path]
) -> tuple[dict[str, Tensor], WarmStart]:
    """Fit the map and turn it into tensors of the host.

    Args:
        host: the family.
        source: its checkpoint.
        encoder: the donor's tower file.
        plan: of `warm_plan`.
        images: unlabelled; one in five chooses the ridge's strength and tells what the map explains.

    Returns:
        The tensors' values by the names that they have in `plan.new`, and the record.

    Raises:
        FormatError: if the old tower's tensors are not all there.
        HostError: if there are fewer than ten images, or the tokens of a tower form no square.
        ImageError: naming the images that cannot be read.
    """
    if len(images) < FEWEST:
        raise HostError(f"a warm graft needs {FEWEST} images or more, better some hundreds; there are {len(images)}")
    with tempfile.TemporaryDirectory() as scratch:
        old = _old_reader(host, source, Path(scratch) / "old")
        donor = _donor_reader(host, source, encoder, plan, Path(scratch) / "donor")
        rule = tower_file.read_header(encoder).preprocessing
        fitted, held = Moments(), Moments()
        for first, squares in _batches(images, rule):
            x, y = matched(donor.tokens(squares), old.tokens(squares))
            for i, pair in enumerate(zip(x, y, strict=True), start=first):
                (held if i % HELD_OUT == HELD_OUT - 1 else fitted).add(*pair)
    strength = max(STRENGTHS, key=lambda strength: held.explained(*fitted.solve(strength)))
    explained = held.explained(*fitted.solve(strength))
    weight, bias = (fitted + held).solve(strength)
    record = WarmStart(
        images=len(images),
        held_out=len(images) // HELD_OUT,
        tokens=round((fitted + held).count),
        strength=strength,
        explained=explained,
    )
    return _as_tensors(host, source, plan, weight.cpu(), bias.cpu()), record


class Moments:
    """Sums over pairs of tokens, in float64: all that a ridge regression and its error need."""

    def __init__(self) -> None:
        self.inputs: Any = 0.0  # [1 + m, 1 + m], the constant first
        self.cross: Any = 0.0  # [1 + m, n]
        self.squares: Any = 0.0  # [n]

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count inputs [tokens, m] and targets [tokens, n] in."""
        x, y = nn.functional.pad(x.double(), (1, 0), value=1.0), y.double()
        self.inputs, self.cross, self.squares = (
            self.inputs + x.T @ x,
            self.cross + x.T @ y,
            self.squares + (y**2).sum(0),
        )

    def __add__(self, other: "Moments") -> "Moments":
        both = Moments()
        for name in ("inputs", "cross", "squares"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

    @property
    def count(self) -> float:
        """Number of pairs."""
        return float(self.inputs[0, 0])

    def solve(self, strength: float) -> tuple[Tensor, Tensor]:
        """Weight [n, m] and bias [n] of the ridge regression with a free bias."""
        mean_x, mean_y = self.inputs[0, 1:] / self.count, self.cross[0] / self.count
        covariance = self.inputs[1:, 1:] / self.count - mean_x.outer(mean_x)
        ridge = strength * covariance.diagonal().mean().clamp(min=1e-12) * torch.eye(len(mean_x)).to(covariance)
        weight = torch.linalg.solve(covariance + ridge, self.cross[1:] / self.count - mean_x.outer(mean_y)).T
        return weight, mean_y - weight @ mean_x

    def explained(self, weight: Tensor, bias: Tensor) -> float:
        """Share of the targets' variance, over all of their channels, that this map explains."""
        whole = torch.cat((bias[:, None], weight), dim=1)
        error = self.squares - 2 * (whole.T * self.cross).sum(0) + (whole @ self.inputs * whole).sum(1)
        variance = self.squares - self.cross[0] ** 2 / self.count
        return 1 - float(error.sum() / variance.sum().clamp(min=1e-12))


def matched(donor: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens of both towers place by place, on the coarser of the two grids; class tokens pair up where both hand one on.

    Args:
        donor: [B, tokens, width].
        old: the same of the other tower.

    Returns:
        Two tensors with the same number of tokens, each [B, tokens, its own width].

    Raises:
        HostError: if the tokens of one form no square grid.
    """
    (donor_class, donor_grid), (old_class, old_grid) = _parts(donor), _parts(old)
    side = math.isqrt(min(donor_grid.shape[1], old_grid.shape[1]))
    grids = [_coarsened(donor_grid, side), _coarsened(old_grid, side)]
    if donor_class.shape[1] and old_class.shape[1]:
        grids = [torch.cat((donor_class, grids[0]), dim=1), torch.cat((old_class, grids[1]), dim=1)]
    return grids[0], grids[1]


def _parts(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Class token, or nothing, and grid."""
    for extra in (0, 1):
        if math.isqrt(tokens.shape[1] - extra) ** 2 == tokens.shape[1] - extra:
            return tokens[:, :extra], tokens[:, extra:]
    raise HostError(
        f"{tokens.shape[1]} tokens of a tower form no square grid, so they have no places; graft without --warm"
    )


def _coarsened(grid: Tensor, side: int) -> Tensor:
    if grid.shape[1] == side**2:
        return grid
    return grid.mean(dim=1, keepdim=True) if side == 1 else resize_grid(grid, side)


@dataclass(frozen=True)
class _Reader:
    """A tower with the processor that feeds it; the whole of the photograph is one image to it."""

    host: Host
    tower: nn.Module
    config: Any
    processor: Any

    @torch.no_grad()
    def tokens(self, images: Sequence[Image.Image]) -> Tensor:
        """What the connector reads of square images: [B, tokens, width]."""
        device = next(self.tower.parameters()).device
        pixels = torch.cat([self._pixels(image) for image in images]).to(device)
        states = self.host.encode(self.tower, self.config, {"pixel_values": pixels})
        if states is None:
            raise HostError(f"{self.host.title} keeps none of its tower's output to fit a map on; graft without --warm")
        if states.dim() == 4:  # several hidden states, which the connector reads side by side
            states = states.transpose(1, 2).flatten(2)
        drops = getattr(self.config, "vision_feature_select_strategy", "full") == "default"
        return states[:, 1:] if drops else states

    def _pixels(self, image: Image.Image) -> Tensor:
        encoded = self.processor(images=[image], text=[self.host.prompt("")], return_tensors="pt")
        pixels: Tensor = encoded["pixel_values"]
        return pixels[-1:].float()  # of several tiles the last is the whole image


def _old_reader(host: Host, source: Source, directory: Path) -> _Reader:
    config = _write(host, source, source.files, directory)
    with torch.device("meta"):
        kind = type(model_class(host)(config).get_submodule(host.tower))
    tower: nn.Module = kind(config.vision_config)
    names = {name[match.end() :]: name for name in source.tensors if (match := re.match(host.tower_keys, name))}
    names = {name: full for name, full in names.items() if not name.endswith("position_ids")}
    tensors = {name: read_tensor(source.tensors[full]).float() for name, full in names.items()}
    if problems := misfits(tensors, tower.state_dict(), "the tower has"):
        raise FormatError(source.directory, None, f"not the tensors of {kind.__name__}: {'; '.join(problems[:6])}")
    tower.load_state_dict(tensors, strict=True)
    return _Reader(host, tower.eval().to(_device()), config, host.processor(directory))


def _donor_reader(host: Host, source: Source, encoder: Path, plan: Plan, directory: Path) -> _Reader:
    config = _write(host, source, plan.files, directory)
    tensors = tower_file.read_tensors(encoder)
    if plan.positions is not None:
        for name in tensors.keys() & set(POSITION_TABLES):
            tensors[name] = resize_positions(tensors[name].float(), plan.positions)
    if plan.tower is None:
        tower: nn.Module = AutoModel.from_config(config.vision_config)
        tower.load_state_dict(tensors, strict=True)
    else:
        tower = host.build_tower(plan.tower.model_copy(update={"bridge": None}), config)
        tower.get_submodule("donor").load_state_dict(tensors, strict=True)
    return _Reader(host, tower.float().eval().to(_device()), config, host.processor(directory))


def _write(host: Host, source: Source, files: dict[str, Any], directory: Path) -> Any:
    """The directory without its weights, for the processor; returns the model's configuration."""
    directory.mkdir()
    write_files(source, files, directory)
    return model_class(host).config_class.from_pretrained(directory)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _batches(images: Sequence[Path], rule: Preprocessing) -> Iterator[tuple[int, list[Image.Image]]]:
    """Squares with the index of their first; unreadable images stop it at the end, so that all of them are named."""
    unreadable: list[str] = []
    for first in tqdm(range(0, len(images), BATCH), desc="warm graft", unit="batch"):
        squares = []
        for path in images[first : first + BATCH]:
            try:
                squares.append(_square(open_image(path), rule))
            except ImageError as error:
                unreadable.append(str(error))
        if not unreadable:
            yield first, squares
    if unreadable:
        raise ImageError(f"{len(unreadable)} of {len(images)} images cannot be used: " + "; ".join(unreadable[:6]))


def _square(image: Image.Image, rule: Preprocessing) -> Image.Image:
    """The square that the donor sees of a photograph, for both towers: else the same place would not be the same thing."""
    if image.width == image.height:
        return image
    side = min(image.size) if rule.resize == "crop" else max(image.size)
    pixels = to_square(image, rule.model_copy(update={"size": side}))
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def _as_tensors(host: Host, source: Source, plan: Plan, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Values of the last two tensors of the plan."""
    names = [tensor.name for tensor in plan.new[-2:]]
    if host.first_linear:
        old = [_named(source, f"{host.first_linear}.{part}").double() for part in ("weight", "bias")]
        weight, bias = old[0] @ weight, old[1] + old[0] @ bias
    return dict(zip(names, (weight.float(), bias.float()), strict=True))


def _named(source: Source, ending: str) -> Tensor:
    return read_tensor(next(part for name, part in source.tensors.items() if name.endswith(ending)))


def _tower_prefix(host: Host, source: Source) -> str:
    return grafted_prefix(next(m.group() for name in source.tensors if (m := re.match(host.tower_keys, name))))
