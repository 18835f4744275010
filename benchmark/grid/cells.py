"""The cells of a grid of hosts, towers and seeds: what a configuration asks for, and how each cell is called."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from benchmark.cases.images import Shown
from benchmark.cases.overlap import Rule
from mgll.bounds import Bounds, check_bounds
from mgll.cells import failure
from mgll.settings import ObjectiveName, PretrainSettings
from mgll.stage import is_finished
from mgll.training_cost import Gpu
from mllm_adapters.contract.token_policy import TokenPolicy
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.settings import FinetuneSettings

#: Name of the column of hosts as they are.
UNTOUCHED = "untouched"
OWN, RANDOM, START = "own", "random", "start"
#: Towers that are pretrained for the grid, with their objective; None: that of the settings.
PRETRAINED: Mapping[str, ObjectiveName | None] = {"clip": "clip", "mgll": None}
#: Folder of a cell's scores by the images that were shown.
SHOWN: Mapping[str, Shown] = {"scores": "own", "blind": "blank", "source": "source", "shuffled": "shuffled"}


@dataclass(frozen=True)
class HostEntry:
    """A host of the grid.

    Attributes:
        host: its name (`python -m mllm_adapters.swap --list`).
        checkpoint: a folder, a hub id, or `tiny` for the tiny instance that ships with the package; None is the published one.
        parts: further checkpoints that the published one leaves out, as NAME=DIR_OR_HUB_ID.
        tokens: token policy of the grafts.
        finetune: settings of fine-tuning in which this host differs from the others. Its untouched and grafted towers never differ.
        parameters: number of parameters, for the dry run where the checkpoint is not on this machine.
        image_tokens: number of image tokens, likewise.
    """

    host: str
    checkpoint: str | None = None
    parts: tuple[str, ...] = ()
    tokens: TokenPolicy = "native"
    finetune: dict[str, Any] = field(default_factory=dict)
    parameters: float | None = None
    image_tokens: int | None = None


@dataclass(frozen=True)
class Table2Settings:
    """The grid and how its cells are made.

    Attributes:
        manifest: images with the splits `train` and `test`.
        out: folder of everything.
        hosts: the rows: NAME=FOLDER_OR_HUB_ID, NAME alone for its published checkpoint, or all of `HostEntry`. In place of a folder
            stand `tiny` for the family's tiny instance and, for `llava`, `demo` for the demo's host.
        towers: what is grafted into each: `own` (the host's own tower; nothing may change, which is checked), `random`, `start`
            (the weights that pretraining starts from), `clip` and `mgll` (pretrained here), or NAME=TOWER: a tower file or a
            published encoder as `python -m mllm_adapters.swap --encoder` takes it, in which {seed} stands for the seed. The
            untouched host is always there; reports are of the last tower against it.
        seeds: of pretraining, training questions and fine-tuning; `own` has the first only.
        train_questions: number of fine-tuning questions; default one for every image and class of it.
        test_questions: number of cases; default the same.
        overlap: what becomes of test images that stand in `train` under another name: `refuse` to run, `drop` or `keep` them.
        pretrain: settings of the towers that are pretrained here, but for objective, seed, manifest and folder.
        finetune: settings of all fine-tunings, but for the seed and a host's own.
        standardise: rewrite towers with image features of mean 0 and variance 1, so that no connector starts at a disadvantage.
        batch_size: cases a call in scoring.
        cell: make only these cells, by number: `3`, `0-7` or `1,4-6`. Then no table is written.
        cells: list the cells and stop.
        table: write the table from the cells that are finished, make none, and stop.
        dry_run: say what the grid would cost and stop.
        gpu: whose peak the dry run reckons with: `A100` or `H100`.
    """

    manifest: str
    hosts: tuple[HostEntry | str, ...]
    out: str = "runs/table2"
    towers: tuple[str, ...] = (OWN, RANDOM, START, "clip", "mgll")
    seeds: tuple[int, ...] = (0, 1, 2)
    train_questions: int | None = None
    test_questions: int | None = None
    overlap: Rule = "refuse"
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    standardise: bool = True
    batch_size: int = 16
    cell: str | None = None
    cells: bool = False
    table: bool = False
    dry_run: bool = False
    gpu: Gpu = "A100"

    bounds: ClassVar[Bounds] = {
        "train_questions": (1, math.inf),
        "test_questions": (1, math.inf),
        "batch_size": (1, math.inf),
    }

    @property
    def entries(self) -> tuple[HostEntry, ...]:
        """The rows, each in full."""
        return tuple(host_entry(host) if isinstance(host, str) else host for host in self.hosts)

    @property
    def given(self) -> dict[str, str]:
        """Name -> path, perhaps with {seed} in it, of every tower that is not made here."""
        return {name: path for name, _, path in (tower.partition("=") for tower in self.towers) if path}


@dataclass(frozen=True)
class GridCell:
    """One host with one tower under one seed; `tower` is its name, `untouched` for the host as it is."""

    entry: HostEntry
    tower: str
    seed: int

    @property
    def path(self) -> Path:
        """Its folder, under the run's."""
        return Path("cells") / self.entry.host / self.tower / f"seed-{self.seed}"


def grid_of(settings: Table2Settings) -> list[GridCell]:
    """All cells, seed by seed, so that a first whole table stands early; a cell's number is its place.

    Raises:
        ValueError: for a host, tower or fine-tuning setting that there is not, or that is named twice.
    """
    names = [tower_name(tower) for tower in settings.towers]
    hosts = [entry.host for entry in settings.entries]
    for what, found in (("host", hosts), ("tower", names), ("seed", list(settings.seeds))):
        if not found or len(set(found)) < len(found):
            raise ValueError(
                f"a grid needs one {what} or more, each once; found {', '.join(map(str, found)) or 'none'}"
            )
    for tower in settings.towers:
        if "=" not in tower and tower not in (OWN, RANDOM, START, *PRETRAINED):
            raise ValueError(f"tower {tower!r}: give {OWN}, {RANDOM}, {START}, {', '.join(PRETRAINED)} or NAME=TOWER")
        name, given = tower_name(tower), "=" in tower
        if not name.replace("-", "").replace("_", "").isalnum() or name == UNTOUCHED or (given and name == OWN):
            raise ValueError(f"tower {tower!r}: a name has letters, digits, - and _, and is not {UNTOUCHED} or {OWN}")
    for entry in settings.entries:
        get_host(entry.host)
        check_bounds(finetuning(settings, entry, 0), f"finetune of {entry.host}: ")
    return [
        GridCell(entry, tower, seed)
        for seed in settings.seeds
        for entry in settings.entries
        for tower in (UNTOUCHED, *names)
        if tower != OWN or seed == settings.seeds[0]
    ]


def finetuning(settings: Table2Settings, entry: HostEntry, seed: int) -> FinetuneSettings:
    """How a host, untouched or grafted, is fine-tuned.

    Raises:
        ValueError: if the host's own settings name one that there is not.
    """
    if unknown := sorted(entry.finetune.keys() - vars(settings.finetune).keys()):
        raise ValueError(f"{entry.host}: fine-tuning has no setting {', '.join(unknown)}")
    return replace(settings.finetune, **entry.finetune, seed=seed)


def listed(settings: Table2Settings, grid: Sequence[GridCell]) -> str:
    """A line for each cell: number, host, tower, seed, and whether it is finished or has failed."""
    lines = []
    for number, cell in enumerate(grid):
        folder = Path(settings.out) / cell.path
        state = "failed: " + said if (said := failure(folder)) else "finished" if is_finished(folder) else "to do"
        lines.append(f"{number:5}  {cell.entry.host:14}{cell.tower:14}seed {cell.seed:<4}{state}")
    return "\n".join(lines)


def numbers_in(given: str, count: int) -> list[int]:
    """The numbers of `3`, `0-7` or `1,4-6`.

    Raises:
        ValueError: if it is none of these, or names a cell that there is not.
    """
    found: dict[int, None] = {}
    for part in given.split(","):
        first, _, last = part.partition("-")
        if not (first.isdigit() and (last or first).isdigit()) or not int(first) <= int(last or first) < count:
            raise ValueError(f"--cell {given}: give numbers of cells, 0 to {count - 1}, such as 3, 0-7 or 1,4-6")
        found |= dict.fromkeys(range(int(first), int(last or first) + 1))
    return list(found)


def host_entry(named: str) -> HostEntry:
    """The row that is written NAME or NAME=CHECKPOINT."""
    name, _, checkpoint = named.partition("=")
    return HostEntry(name, checkpoint or None)


def tower_name(tower: str) -> str:
    """The name of a column in the form that settings have: NAME or NAME=TOWER."""
    return tower.partition("=")[0]
