"""The paper's Table 2: hosts x towers x seeds, each tower grafted, fine-tuned, scored, and compared with the untouched host.

    python recipes/table2.py --manifest fundus.jsonl --hosts llava=DIR --towers mgll=runs/mgll/mgll.ckpt   # one host, your tower
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
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmark.cases.case import read_cases
from benchmark.cases.images import Shown
from benchmark.cases.overlap import OverlapCheck
from benchmark.cases.training import training_questions
from benchmark.grid.cells import (
    OWN,
    PRETRAINED,
    RANDOM,
    SHOWN,
    UNTOUCHED,
    GridCell,
    HostEntry,
    Table2Settings,
    finetuning,
    grid_of,
    listed,
    numbers_in,
    tower_name,
)
from benchmark.predictions.batches import Asking
from benchmark.predictions.file import Run, read_run
from benchmark.predictions.scoring import score_cases
from benchmark.run_mcq import describing_header
from benchmark.scorers.by_name import load_scorer
from mgll.cells import failure, own_turn, run_cells
from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mgll.formats import check_there
from mgll.manifest.image_identity import data_identity
from mgll.manifest.records import Split, read_manifest
from mgll.published.recognition import tower_of
from mgll.stage import is_finished, stage
from mgll.tower.seen import seen_path
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.demo.settings import TINY
from mllm_adapters.graft.transplant import convert_host, graft_tower
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.hub import check_encoder, check_named, resolve_checkpoint, resolve_encoder, resolve_parts
from mllm_adapters.loading.load import shard_hashes


@ends_in_one_line
def main() -> int:
    """Parse the settings; list cells, reckon, or run. 1 where a cell failed or the own tower changed something."""
    settings = parse_settings(Table2Settings, __doc__ or "")
    grid = grid_of(settings)
    if settings.cells:
        print(listed(settings, grid))
        return 0
    if settings.dry_run:
        from benchmark.grid.cost import cost_of

        print(cost_of(settings, grid))
        return 0
    if settings.table:
        return int(write_table(settings, grid))
    chosen = range(len(grid)) if settings.cell is None else numbers_in(settings.cell, len(grid))
    # what is wrong with these would be wrong in every cell, or in all cells of a row or column
    check_there(settings.manifest, settings.pretrain.start_weights)
    for given in settings.given.values():
        if "{seed}" not in given:
            check_encoder(given)
    for entry in settings.entries:
        if entry.checkpoint != TINY:
            check_named(get_host(entry.host), entry.checkpoint)
    read_manifest(settings.manifest)
    out = Path(settings.out)
    _questions(settings, "test", out / "test.jsonl")
    for seed in sorted({grid[number].seed for number in chosen}):
        _questions(settings, "train", _learned(out, seed), seed)
    run_cells(
        [Path(settings.out) / grid[number].path for number in chosen],
        lambda index: make_cell(settings, grid[chosen[index]]),
        wait=settings.cell is None,
    )
    wrong = [number for number in chosen if failure(Path(settings.out) / grid[number].path)]
    changed = settings.cell is None and write_table(settings, grid)
    return int(bool(wrong or changed))


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
        **data_identity(settings.manifest),
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
    seen_by = [] if split == "train" else _recorded(settings)
    made = {
        **data_identity(settings.manifest),
        "split": split,
        "count": count,
        "seed": seed,
        "overlap": settings.overlap,
        **({"seen_by": seen_by} if seen_by else {}),
    }
    check = OverlapCheck(seen_by, settings.overlap)
    with own_turn(path):
        return stage(path, made, lambda: build_cases(settings.manifest, path, split, check, count=count, seed=seed))


def _recorded(settings: Table2Settings) -> list[Path]:
    """The towers that were pretrained elsewhere and recorded on which images; about none of these may be asked."""
    named = [Path(path.replace("{seed}", str(seed))) for path in settings.given.values() for seed in settings.seeds]
    return [path for path in dict.fromkeys(named) if seen_path(path).is_file()]


def _host(out: Path, entry: HostEntry) -> Path:
    """The untouched host, in the layout that `mllm_adapters.load` reads."""
    path = out / "hosts" / entry.host
    with own_turn(path):
        if entry.checkpoint == TINY:
            from mllm_adapters.demo.tiny_hosts import build_tiny_host, tiny_sha256

            return stage(path, {"tiny": tiny_sha256()}, lambda: build_tiny_host(entry.host, path))
        host = get_host(entry.host)
        directory, named = resolve_checkpoint(host, entry.checkpoint)
        parts = resolve_parts(host, entry.parts, directory)
        made = {folder.name: _listing(folder) for folder in (directory, *parts.values())}
        return stage(path, made, lambda: convert_host(host, directory, path, named=named, parts=parts))


def _listing(path: Path) -> list[str]:
    """Names and sizes of a checkpoint's files: its content is compared when it is loaded."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [f"{file.name} {file.stat().st_size}" for file in files if file.is_file()]


def _tower(settings: Table2Settings, name: str, seed: int) -> Path:
    """The tower file of a column under a seed, ready to be grafted."""
    given = settings.given.get(name)
    folder = Path(settings.out) / "towers" / f"seed-{seed}"
    path = folder / f"{name}.ckpt"
    with own_turn(folder / name):
        if given:
            path = tower_of(resolve_encoder(given.replace("{seed}", str(seed))), folder)
        run = replace(settings.pretrain, seed=seed, manifest=settings.manifest, out=str(folder / name))
        if name in PRETRAINED and not given:
            from mgll.training.identity import made_of
            from mgll.training.pretraining import pretrain

            run = replace(run, objective=PRETRAINED[name] or run.objective)
            path = (
                stage(Path(run.out), {**made_of(run), **data_identity(settings.manifest)}, partial(pretrain, run))
                / "mgll.ckpt"
            )
        elif not given:
            from mgll.training.pretraining import save_start_tower

            if name == RANDOM:  # never the weights that pretraining starts from
                run = replace(run, start_weights=None, seed=seed + 1_000_003)
            stage(path, {"run": replace(run, manifest="", out="")}, lambda: save_start_tower(run, path))
        return _standardised(settings, path, folder / f"{name}-standardised.ckpt") if settings.standardise else path


def _standardised(settings: Table2Settings, tower: Path, path: Path) -> Path:
    from mgll.tower.standardise import standardise_tower

    images = [record.image for record in read_manifest(settings.manifest, "train")][:1000]
    return stage(
        path, {"tower": tower, **data_identity(settings.manifest)}, lambda: standardise_tower(tower, images, path)
    )


def write_table(settings: Table2Settings, grid: Sequence[GridCell]) -> bool:
    """Write reports and table from the cells that are finished, the others named; returns whether an own tower changed something.

    Raises:
        ValueError: if no cell is finished.
    """
    # here, because torch takes seconds to import
    from benchmark.report.grid import NOT_FINISHED, Entry, build_grid
    from benchmark.report.grid_files import write_grid
    from benchmark.report.terminal import print_grid

    out = Path(settings.out)
    failures = [failure(path) or (None if is_finished(path) else NOT_FINISHED) for path in (out / c.path for c in grid)]
    if all(failures):
        raise ValueError(f"none of the {len(grid)} cells is finished, the first: {failures[0]}")
    cases, learned = read_cases(out / "test.jsonl"), _learned(out, settings.seeds[0])
    entries = [
        Entry(cell.entry.host, cell.tower, cell.seed, {} if said else _runs(out / cell.path), said)
        for cell, said in zip(grid, failures, strict=True)
    ]
    table = build_grid(cases, entries, UNTOUCHED, OWN, read_cases(learned) if learned.is_file() else None)
    finished = [cell for cell, said in zip(grid, failures, strict=True) if not said]
    reports = {entry.host: report for entry in settings.entries if (report := _report(settings, finished, entry.host))}
    paths = write_grid(out, table, reports)
    print_grid(table)
    print("\n".join(map(str, (*paths, *(out / report for report in reports.values())))))
    return any(table.changed.values())


def _runs(folder: Path) -> dict[Shown, Run]:
    return {shown: read_run(folder / name) for name, shown in SHOWN.items()}


def _report(settings: Table2Settings, finished: Sequence[GridCell], host: str) -> str | None:
    """The report of the last tower in a host against the untouched one; None while they can't be compared."""
    from benchmark.report.writing import report_runs

    out, last = Path(settings.out), tower_name(settings.towers[-1])
    before, after = (
        [out / cell.path for cell in finished if (cell.entry.host, cell.tower) == (host, tower)]
        for tower in (UNTOUCHED, last)
    )
    if not before or not after or (len(before) != len(after) and 1 in (len(before), len(after))):
        return None
    path, cases, learned = out / "reports" / host, out / "test.jsonl", _learned(out, settings.seeds[0])
    # beside the scores lie the weights, which a report does not see
    sides = [[cell / name for cell in side for name in SHOWN] for side in (before, after)]
    made = {"runs": sides, "cases": cases, "training": learned}
    with own_turn(path):
        stage(
            path,
            made,
            lambda: report_runs(
                path,
                cases,
                [cell / "scores" for cell in after],
                [cell / "scores" for cell in before],
                after[0] / "blind",
                shuffled=after[0] / "shuffled",
                source=after[0] / "source",
                training=learned,
            ),
        )
    return f"reports/{host}/report.html"


def _learned(out: Path, seed: int) -> Path:
    """The training questions of a seed."""
    return out / "train" / f"seed-{seed}.jsonl"


if __name__ == "__main__":
    sys.exit(main())
