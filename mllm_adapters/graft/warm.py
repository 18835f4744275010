"""A warm graft: the host's connector is given the donor's tokens as if they were the old tower's.

Both towers are run on unlabelled images, and a linear map from the donor's tokens to the old tower's tokens at the same place is
fitted in closed form (ridge regression). Where the connector starts with a linear layer that reads the tokens, the map is
multiplied into this layer; elsewhere it becomes a layer behind the donor, the `bridge`. The language model is never loaded. Only
sums over the tokens are kept, therefore memory does not grow with the number of images.
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
from mllm_adapters.hosts.registry import all_hosts
from mllm_adapters.loading.classes import model_class

#: Strengths of the ridge, chosen by the error on images left out; in units of the donor tokens' mean variance.
STRENGTHS = (1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
HELD_OUT, FEWEST = 5, 10  # every fifth image is left out of the fit; with fewer than ten, no choice could rest on them
BATCH = 8
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}


def images_in(folder: Path, limit: int, seed: int = 0) -> list[Path]:
    """Draw at most `limit` images from a folder and its subfolders.

    Raises:
        HostError: if the folder holds no image.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise HostError(f"--warm {folder}: no images in it ({', '.join(sorted(SUFFIXES))})")
    return sorted(random.Random(seed).sample(found, min(limit, len(found))))


def warm_plan(host: Host, source: Source, plan: Plan, settings: GraftSettings) -> Plan:
    """Add to a plan the tensors that the fitted map will determine: the connector's first linear layer, or the bridge.

    Raises:
        HostError: if the host has no place for the map, or the settings make its connector new.
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
        able = [host.name for host in all_hosts() if host.first_linear or host.bridges]
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
    """Fit the linear map from the donor's tokens to the old tower's, and turn it into tensors of the host.

    Args:
        host: the family.
        source: its checkpoint.
        encoder: the donor's tower file.
        plan: the plan from `warm_plan`.
        images: paths of unlabelled images; every fifth is left out of the fit, to choose the ridge's strength and to measure what
            the map explains. The tensors are then fitted on all.

    Returns:
        The tensors' values by the names that they have in `plan.new`, and the record.

    Raises:
        FormatError: if the old tower's tensors are not all there.
        HostError: if there are fewer than ten images, or the tokens of a tower form no square.
        ImageError: if images cannot be read; the message names them.
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
        """Add pairs of inputs [tokens, m] and targets [tokens, n] to the sums."""
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
        """Number of token pairs in the sums."""
        return float(self.inputs[0, 0])

    def solve(self, strength: float) -> tuple[Tensor, Tensor]:
        """Weight [n, m] and bias [n] of the ridge regression with a free bias."""
        mean_x, mean_y = self.inputs[0, 1:] / self.count, self.cross[0] / self.count
        covariance = self.inputs[1:, 1:] / self.count - mean_x.outer(mean_x)
        ridge = strength * covariance.diagonal().mean().clamp(min=1e-12) * torch.eye(len(mean_x)).to(covariance)
        weight = torch.linalg.solve(covariance + ridge, self.cross[1:] / self.count - mean_x.outer(mean_y)).T
        return weight, mean_y - weight @ mean_x

    def explained(self, weight: Tensor, bias: Tensor) -> float:
        """Share of the targets' variance over all channels that the map of weight [n, m] and bias [n] explains."""
        whole = torch.cat((bias[:, None], weight), dim=1)
        error = self.squares - 2 * (whole.T * self.cross).sum(0) + (whole @ self.inputs * whole).sum(1)
        variance = self.squares - self.cross[0] ** 2 / self.count
        return 1 - float(error.sum() / variance.sum().clamp(min=1e-12))


def matched(donor: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
    """Pair the tokens of two towers place by place on the coarser of their grids, and the class tokens where both have one.

    Args:
        donor: tokens of the donor [B, tokens, width].
        old: tokens of the old tower [B, tokens, width]; number and width may differ from the donor's.

    Returns:
        Two tensors with the same number of tokens, each [B, tokens, its own width].

    Raises:
        HostError: if the tokens of a tower form no square grid.
    """
    (donor_class, donor_grid), (old_class, old_grid) = _parts(donor), _parts(old)
    side = math.isqrt(min(donor_grid.shape[1], old_grid.shape[1]))
    grids = [_coarsened(donor_grid, side), _coarsened(old_grid, side)]
    if donor_class.shape[1] and old_class.shape[1]:
        grids = [torch.cat((donor_class, grids[0]), dim=1), torch.cat((old_class, grids[1]), dim=1)]
    return grids[0], grids[1]


def _parts(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Split tokens [B, tokens, width] into the class token (maybe none) and the square grid."""
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
    """A tower with the processor that prepares its images. Where a processor cuts tiles, only the whole image is read."""

    host: Host
    tower: nn.Module
    config: Any
    processor: Any

    @torch.no_grad()
    def tokens(self, images: Sequence[Image.Image]) -> Tensor:
        """Tokens of square images that the connector reads: [B, tokens, width]."""
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
    """Write the host's directory without its weights, for the processor; returns the model's configuration."""
    directory.mkdir()
    write_files(source, files, directory)
    return model_class(host).config_class.from_pretrained(directory)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _batches(images: Sequence[Path], rule: Preprocessing) -> Iterator[tuple[int, list[Image.Image]]]:
    """Yield batches of square images, each with the index of its first; unreadable images are raised together at the end."""
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
    """Crop or pad for both towers as the donor does, so that token (i, j) of each covers the same pixels."""
    if image.width == image.height:
        return image
    side = min(image.size) if rule.resize == "crop" else max(image.size)
    pixels = to_square(image, rule.model_copy(update={"size": side}))
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def _as_tensors(host: Host, source: Source, plan: Plan, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Values of the last two tensors of the plan, which are the weight and the bias that hold the map."""
    names = [tensor.name for tensor in plan.new[-2:]]
    if host.first_linear:
        old = [_named(source, f"{host.first_linear}.{part}").double() for part in ("weight", "bias")]
        weight, bias = old[0] @ weight, old[1] + old[0] @ bias
    return dict(zip(names, (weight.float(), bias.float()), strict=True))


def _named(source: Source, ending: str) -> Tensor:
    return read_tensor(next(part for name, part in source.tensors.items() if name.endswith(ending)))


def _tower_prefix(host: Host, source: Source) -> str:
    return grafted_prefix(next(m.group() for name in source.tensors if (m := re.match(host.tower_keys, name))))
