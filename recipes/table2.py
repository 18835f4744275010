"""The paper's Table 2: hosts x towers x seeds, each tower grafted, fine-tuned, scored, and compared with the untouched host.

    python recipes/table2.py --config recipes/configs/table2_toy.yaml --manifest fundus.jsonl   # eight tiny hosts, no GPU
    python recipes/table2.py --config recipes/configs/table2.yaml --dry-run                     # cells, disk, GPU hours, memory
    python recipes/table2.py --config recipes/configs/table2.yaml --cells                       # the cells and their numbers
    sbatch --array=0-127 --wrap 'python recipes/table2.py --config recipes/configs/table2.yaml --cell $SLURM_ARRAY_TASK_ID'

A cell is one host with one tower under one seed: graft, fine-tune, score on the cases' own images, on blank ones, on the mean
images of the sources and on those of other cases. Each is made once. Start the command as often as there are GPUs, on any node that
sees the folder: every process takes the next cell that nobody holds. What was killed goes on where it was, what failed is shown in
the table and tried again by the next start. Without `--cell` the command ends with the table: table2.html, .csv, .tex and a report
of every host. docs/table2.md says more.

Research use only, not for diagnosis.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.cases.case import read_cases
from benchmark.cases.images import Shown
from benchmark.cases.overlap import OverlapCheck, Rule
from benchmark.cases.training import training_questions
from benchmark.predictions.file import Run, read_run
from benchmark.predictions.scoring import Asking, score_cases
from benchmark.run_mcq import describing_header, load_scorer
from mgll.cells import failure, own_turn, run_cells
from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mgll.manifest.image_identity import sizes_and_times
from mgll.manifest.records import Split, read_manifest
from mgll.settings import ObjectiveName, PretrainSettings
from mgll.stage import is_finished, stage
from mgll.training_cost import GB, PEAKS, CostSettings, cost, image_encoder_cost, text_encoder_cost
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.contract.token_policy import TokenPolicy
from mllm_adapters.demo.settings import TINY
from mllm_adapters.graft.transplant import convert_host, graft_tower
from mllm_adapters.host_cost import PROMPT, host_cost
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.hub import resolve_checkpoint, resolve_parts
from mllm_adapters.loading.load import shard_hashes
from mllm_adapters.settings import FinetuneSettings

UNTOUCHED = "untouched"
OWN, RANDOM, START = "own", "random", "start"
PRETRAINED: Mapping[str, ObjectiveName | None] = {"clip": "clip", "mgll": None}  # None: that of the settings
#: Parameters and image tokens of a tiny host, at most.
TINY_COST = (1.6e6, 36)
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
        hosts: the rows.
        towers: what is grafted into each: `own` (the host's own tower; nothing may change, which is checked), `random`, `start`
            (the weights that pretraining starts from), `clip` and `mgll` (pretrained here), or NAME=PATH of a tower file, in which
            {seed} stands for the seed. The untouched host is always there; reports are of the last tower against it.
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
        dry_run: say what the grid would cost and stop.
        gpu: whose peak the dry run reckons with: `A100` or `H100`.
    """

    manifest: str
    out: str
    hosts: tuple[HostEntry, ...]
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
    dry_run: bool = False
    gpu: str = "A100"


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


@ends_in_one_line
def main() -> int:
    """Parse the settings; list cells, reckon, or run. 1 where a cell failed or the own tower changed something."""
    settings = parse_settings(Table2Settings, __doc__ or "", _flags(sys.argv[1:]))
    grid = grid_of(settings)
    if settings.cells or settings.dry_run:
        print(listed(settings, grid) if settings.cells else cost_of(settings, grid))
        return 0
    chosen = range(len(grid)) if settings.cell is None else numbers_in(settings.cell, len(grid))
    read_manifest(settings.manifest)  # what is wrong with it would be wrong in every cell
    run_cells(
        [Path(settings.out) / grid[number].path for number in chosen],
        lambda index: make_cell(settings, grid[chosen[index]]),
        wait=settings.cell is None,
    )
    wrong = [number for number in chosen if failure(Path(settings.out) / grid[number].path)]
    changed = settings.cell is None and write_table(settings, grid)
    return int(bool(wrong or changed))


def grid_of(settings: Table2Settings) -> list[GridCell]:
    """All cells, seed by seed, so that a first whole table stands early; a cell's number is its place.

    Raises:
        ValueError: for a host, tower or fine-tuning setting that there is not, or that is named twice.
    """
    names = [_tower_name(tower) for tower in settings.towers]
    hosts = [entry.host for entry in settings.hosts]
    for what, found in (("host", hosts), ("tower", names), ("seed", list(settings.seeds))):
        if not found or len(set(found)) < len(found):
            raise ValueError(
                f"a grid needs one {what} or more, each once; found {', '.join(map(str, found)) or 'none'}"
            )
    for tower in settings.towers:
        if "=" not in tower and tower not in (OWN, RANDOM, START, *PRETRAINED):
            raise ValueError(f"tower {tower!r}: give {OWN}, {RANDOM}, {START}, {', '.join(PRETRAINED)} or NAME=PATH")
        name, given = _tower_name(tower), "=" in tower
        if not name.replace("-", "").replace("_", "").isalnum() or name == UNTOUCHED or (given and name == OWN):
            raise ValueError(f"tower {tower!r}: a name has letters, digits, - and _, and is not {UNTOUCHED} or {OWN}")
    for entry in settings.hosts:
        get_host(entry.host)
        finetuning(settings, entry, 0)
    return [
        GridCell(entry, tower, seed)
        for seed in settings.seeds
        for entry in settings.hosts
        for tower in (UNTOUCHED, *names)
        if tower != OWN or seed == settings.seeds[0]
    ]


def listed(settings: Table2Settings, grid: Sequence[GridCell]) -> str:
    """A line for each cell: number, host, tower, seed, and whether it is finished or has failed."""
    lines = []
    for number, cell in enumerate(grid):
        folder = Path(settings.out) / cell.path
        state = "failed: " + said if (said := failure(folder)) else "finished" if is_finished(folder) else "to do"
        lines.append(f"{number:5}  {cell.entry.host:14}{cell.tower:14}seed {cell.seed:<4}{state}")
    return "\n".join(lines)


def cost_of(settings: Table2Settings, grid: Sequence[GridCell]) -> str:
    """What the grid would cost, host by host: GPU memory, hours and disk; and which of it is counted and which assumed.

    Raises:
        ValueError: if a host is neither on this machine nor described.
    """
    # here, because it takes a moment to import
    from pandas import DataFrame

    speed = PEAKS[settings.gpu] * CostSettings().utilisation * 3600
    learned, asked = _count(settings, "train"), _count(settings, "test") * len(SHOWN)
    to_do = [cell for cell in grid if not is_finished(Path(settings.out) / cell.path)]
    rows, stated = [], []
    for entry in settings.hosts:
        known = TINY_COST if entry.checkpoint == TINY else (entry.parameters, entry.image_tokens)
        finetune = finetuning(settings, entry, settings.seeds[0])
        found = host_cost(get_host(entry.host), _here(settings, entry), known, finetune, learned, asked)
        cells, hours = sum(cell.entry == entry for cell in to_do), found.operations / speed
        stated += [] if found.counted else [entry.host]
        row = {"": entry.host, "B parameters": found.parameters / 1e9, "image tokens": found.image_tokens}
        row |= {"GB of GPU": found.memory / GB, "h each": hours, "cells": cells, "h": cells * hours}
        rows.append({**row, "GB of disk": cells * found.disk / GB})
    for tower in (tower for tower in settings.towers if tower in PRETRAINED):
        hours, runs = _pretraining_hours(settings), len(settings.seeds)
        rows.append(
            {"": f"pretraining {tower}", "h each": hours, "cells": runs, "h": runs * hours, "GB of disk": runs * 1.2}
        )
    table = DataFrame(rows)
    lines = [
        f"{len(grid)} cells, {len(to_do)} to do; {learned:,} questions to learn, {asked:,} to answer in each cell",
        table.to_string(index=False, float_format=lambda value: f"{value:.1f}", na_rep="", columns=list(rows[0])),
        f"{table['h'].sum():,.1f} GPU hours on an {settings.gpu}, {table['GB of disk'].sum():,.1f} GB of disk",
        f"Estimates. Assumed: {CostSettings().utilisation:.0%} of the GPU's peak, prompts of {PROMPT} tokens beside the image,"
        " one tile an image. Checkpoints are not counted as disk: grafts share their shards by hard links.",
    ]
    if stated:
        lines.append(f"Not on this machine, so taken from the configuration and not counted: {', '.join(stated)}.")
    return "\n".join(lines)


def _count(settings: Table2Settings, split: Split) -> int:
    """Number of questions of a split; where the settings leave it open, one for every image and class of it."""
    given = settings.train_questions if split == "train" else settings.test_questions
    return given or sum(len(record.labels) for record in read_manifest(settings.manifest, split))


def _here(settings: Table2Settings, entry: HostEntry) -> Path | None:
    """The checkpoint of a host, if it is on this machine."""
    made = Path(settings.out) / "hosts" / entry.host
    if is_finished(made):
        return made
    return Path(entry.checkpoint) if entry.checkpoint and Path(entry.checkpoint).is_dir() and not entry.parts else None


def _pretraining_hours(settings: Table2Settings) -> float:
    """Hours of one pretraining, of as many images as the manifest has; of the paper's 246,389 where there is no manifest here."""
    run = settings.pretrain
    size = CostSettings(encoder=run.encoder, image_size=run.image_size, pooling=run.pooling, batch_size=run.batch_size)
    images = len(read_manifest(settings.manifest, "train")) if Path(settings.manifest).is_file() else size.images
    step = cost(replace(size, gpu=settings.gpu), image_encoder_cost(size), text_encoder_cost(size))
    return step.seconds * run.epochs * images / run.batch_size / 3600


def finetuning(settings: Table2Settings, entry: HostEntry, seed: int) -> FinetuneSettings:
    """How a host, untouched or grafted, is fine-tuned.

    Raises:
        ValueError: if the host's own settings name one that there is not.
    """
    if unknown := sorted(entry.finetune.keys() - vars(settings.finetune).keys()):
        raise ValueError(f"{entry.host}: fine-tuning has no setting {', '.join(unknown)}")
    return replace(settings.finetune, **entry.finetune, seed=seed)


def make_cell(settings: Table2Settings, cell: GridCell) -> None:
    """Make all that a cell needs, then the cell, each unless it is there and made of the very same."""
    out = Path(settings.out)
    cases = _questions(settings, "test", out / "test.jsonl")
    learned = _questions(settings, "train", _learned(out, cell.seed), cell.seed)
    base = _host(out, cell.entry)
    tower = None if cell.tower in (UNTOUCHED, OWN) else _tower(settings, cell.tower, cell.seed)
    made = {
        "base": shard_hashes(base),
        "own": cell.tower == OWN,
        "tower": tower,
        "tokens": cell.entry.tokens,
        "questions": learned,
        "cases": cases,
        "finetune": finetuning(settings, cell.entry, cell.seed),
        **_data(settings),
    }
    stage(out / cell.path, made, partial(_make, settings, cell, base, tower, learned, cases))


def _make(settings: Table2Settings, cell: GridCell, base: Path, tower: Path | None, learned: Path, cases: Path) -> None:
    """Graft, fine-tune, score; every step goes on where a killed one was."""
    from mllm_adapters.finetuning.finetune import finetune
    from mllm_adapters.graft.own_tower import regraft_own_tower

    folder, host = Path(settings.out) / cell.path, get_host(cell.entry.host)
    model = base if cell.tower == UNTOUCHED else folder / "graft"
    if cell.tower == OWN:
        regraft_own_tower(host, base, model)
    elif tower:
        graft_tower(host, base, tower, model, GraftSettings(tokens=cell.entry.tokens))
    tuned = folder / "tuned"
    finetune(model, training_questions(learned), tuned, finetuning(settings, cell.entry, cell.seed))
    scorer = load_scorer(str(tuned), name=f"{host.title}, {cell.tower}")
    for name, shown in SHOWN.items():
        asking = Asking(images=shown, batch_size=settings.batch_size)
        score_cases(read_cases(cases), scorer, folder / name, asking, describing_header(cases, scorer))


def _questions(settings: Table2Settings, split: Split, path: Path, seed: int = 0) -> Path:
    """Balanced questions of a split, drawn within sources: no strategy that ignores the image beats 25 %."""
    # here, because scipy takes a moment to import
    from benchmark.cases.building import build_cases

    count = settings.train_questions if split == "train" else settings.test_questions
    check = OverlapCheck(rule=settings.overlap)
    made = {**_data(settings), "split": split, "count": count, "seed": seed, "overlap": settings.overlap}
    with own_turn(path):
        return stage(path, made, lambda: build_cases(settings.manifest, path, split, check, count=count, seed=seed))


def _data(settings: Table2Settings) -> dict[str, Any]:
    """Manifest and images as what a stage is made of."""
    return {"manifest": Path(settings.manifest), "images": sizes_and_times(read_manifest(settings.manifest))}


def _host(out: Path, entry: HostEntry) -> Path:
    """The untouched host, in the layout that `mllm_adapters.load` reads."""
    path = out / "hosts" / entry.host
    with own_turn(path):
        if entry.checkpoint == TINY:
            from mllm_adapters.demo.tiny_hosts import build_tiny_host, tiny_sha256

            return stage(path, {"tiny": tiny_sha256()}, lambda: build_tiny_host(entry.host, path))
        host, parts = get_host(entry.host), resolve_parts(get_host(entry.host), entry.parts)
        directory, named = resolve_checkpoint(host, entry.checkpoint)
        made = {folder.name: _listing(folder) for folder in (directory, *parts.values())}
        return stage(path, made, lambda: convert_host(host, directory, path, named=named, parts=parts))


def _listing(path: Path) -> list[str]:
    """Names and sizes of a checkpoint's files: its content is compared when it is loaded."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [f"{file.name} {file.stat().st_size}" for file in files if file.is_file()]


def _tower(settings: Table2Settings, name: str, seed: int) -> Path:
    """The tower file of a column under a seed, ready to be grafted."""
    given = next(tower for tower in settings.towers if _tower_name(tower) == name).partition("=")[2]
    folder = Path(settings.out) / "towers" / f"seed-{seed}"
    path = Path(given.replace("{seed}", str(seed))) if given else folder / f"{name}.ckpt"
    with own_turn(folder / name):
        run = replace(settings.pretrain, seed=seed, manifest=settings.manifest, out=str(folder / name))
        if name in PRETRAINED and not given:
            from mgll.training.identity import made_of
            from mgll.training.pretraining import pretrain

            run = replace(run, objective=PRETRAINED[name] or run.objective)
            path = stage(Path(run.out), {**made_of(run), **_data(settings)}, partial(pretrain, run)) / "mgll.ckpt"
        elif not given:
            from mgll.training.pretraining import save_start_tower

            if name == RANDOM:
                run = replace(
                    run, start_weights=None, seed=seed + 1_000_003
                )  # never the weights that pretraining starts from
            stage(path, {"run": replace(run, manifest="", out="")}, lambda: save_start_tower(run, path))
        return _standardised(settings, path, folder / f"{name}-standardised.ckpt") if settings.standardise else path


def _standardised(settings: Table2Settings, tower: Path, path: Path) -> Path:
    from mgll.tower.standardise import standardise_tower

    images = [record.image for record in read_manifest(settings.manifest, "train")][:1000]
    return stage(path, {"tower": tower, **_data(settings)}, lambda: standardise_tower(tower, images, path))


def write_table(settings: Table2Settings, grid: Sequence[GridCell]) -> bool:
    """Write reports and table from the cells that are finished; returns whether an own tower changed something.

    Raises:
        ValueError: if no cell is finished.
    """
    # here, because torch takes seconds to import
    from benchmark.report.grid import Entry, build_grid
    from benchmark.report.grid_files import write_grid

    out = Path(settings.out)
    failures = [failure(out / cell.path) for cell in grid]
    if all(failures):
        raise ValueError(f"all {len(grid)} cells failed, the first with: {failures[0]}")
    cases, learned = read_cases(out / "test.jsonl"), _learned(out, settings.seeds[0])
    entries = [
        Entry(cell.entry.host, cell.tower, cell.seed, {} if said else _runs(out / cell.path), said)
        for cell, said in zip(grid, failures, strict=True)
    ]
    table = build_grid(cases, entries, UNTOUCHED, OWN, read_cases(learned) if learned.is_file() else None)
    finished = [cell for cell, said in zip(grid, failures, strict=True) if not said]
    reports = {entry.host: report for entry in settings.hosts if (report := _report(settings, finished, entry.host))}
    paths = write_grid(out, table, reports)
    print("\n".join(map(str, paths)))
    return any(table.changed.values())


def _runs(folder: Path) -> dict[Shown, Run]:
    return {shown: read_run(folder / name) for name, shown in SHOWN.items()}


def _report(settings: Table2Settings, finished: Sequence[GridCell], host: str) -> str | None:
    """The report of the last tower in a host against the untouched one; None while they can't be compared."""
    from benchmark.report.writing import report_runs

    out, last = Path(settings.out), _tower_name(settings.towers[-1])
    before, after = (
        [out / cell.path for cell in finished if (cell.entry.host, cell.tower) == (host, tower)]
        for tower in (UNTOUCHED, last)
    )
    if not before or not after or (len(before) != len(after) and 1 in (len(before), len(after))):
        return None
    path, learned = out / "reports" / host, _learned(out, settings.seeds[0])
    runs = {"after": [cell / "scores" for cell in after], "before": [cell / "scores" for cell in before]}
    controls = {"blind": after[0] / "blind", "shuffled": after[0] / "shuffled", "source": after[0] / "source"}
    made = {**runs, **controls, "cases": out / "test.jsonl", "training": learned}
    with own_turn(path):
        stage(path, made, lambda: report_runs(path, out / "test.jsonl", **runs, **controls, training=learned))
    return f"reports/{host}/report.html"


def _learned(out: Path, seed: int) -> Path:
    """The training questions of a seed."""
    return out / "train" / f"seed-{seed}.jsonl"


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


def _tower_name(tower: str) -> str:
    return tower.partition("=")[0]


def _flags(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the two switches in the form that settings have."""
    switches = {"--dry-run": "--dry_run=true", "--dry_run": "--dry_run=true", "--cells": "--cells=true"}
    return [switches.get(argument, argument) for argument in arguments]


if __name__ == "__main__":
    sys.exit(main())
