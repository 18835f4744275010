r"""Train the rows of one of the paper's ablation tables, probe each tower, and set the results beside the paper's.

    accelerate launch recipes/ablation.py recipes/configs/ablations/table3_loss_terms.yaml --seeds 0 1 2 \\
        --config recipes/configs/paper_fundus.yaml --manifest fundus.jsonl --out runs/table3

All flags of `pretrain_mgll.py` are taken; a row's settings go over them. `--seeds` trains each row with each of them. `--only ROW`
trains one row, so that rows can be shared out over machines. Started again, what is done is not done again, unless what it was made
of has changed. summary.html, .md, .tex and .csv tell of all that is done, in the paper's layout beside the paper's numbers.

Research use only, not for diagnosis.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mgll.commandline import parse_settings, stopped_by_signals
from mgll.configs import find_config
from mgll.ending import ends_in_one_line
from mgll.evaluation.evaluation import evaluate
from mgll.evaluation.linear_readings import PROBE, NothingToReadError
from mgll.evaluation.reading import Reading
from mgll.evaluation.saving import load_evaluation, save_evaluation
from mgll.evaluation.settings import EvaluationSettings, add_probe_arguments, probe_settings
from mgll.evaluation.towers import tower_file
from mgll.files import sha256
from mgll.flags import CommandParser
from mgll.formats import check_there
from mgll.manifest.image_identity import images_identity
from mgll.manifest.records import Records, read_manifest
from mgll.progress import overall
from mgll.settings import PretrainSettings
from mgll.stage import begin_stage, finish_stage, is_made, stage
from mgll.training.ablation_tables import AblationTable, read_table, row_settings

#: Splits in which a probe is read, in this order: a manifest may have no test split.
_SPLITS: tuple[Literal["test", "val"], ...] = ("test", "val")


@ends_in_one_line
def main(arguments: list[str] | None = None) -> None:
    """Parse the flags and run the rows."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("table", help="a file of recipes/configs/ablations/, or a table of your own")
    parser.add_argument("--only", action="append", metavar="ROW", help="may be given several times; default: all rows")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds of every row (default: the recipe's seed alone)")
    add_probe_arguments(parser)
    options, flags = parser.parse_known_args(arguments)
    shared = parse_settings(PretrainSettings, "", flags)
    table = read_table(find_config(options.table))
    if unknown := set(options.only or ()) - table.rows.keys():
        raise ValueError(f"--only: no row {', '.join(unknown)}; there are: {'; '.join(table.rows)}")
    if shared.manifest is None:
        raise ValueError("name a manifest: --manifest FILE")
    check_there(shared.manifest, shared.start_weights)
    seeds = list(dict.fromkeys(options.seeds)) if options.seeds else [None]
    runs = {name: [row_settings(table, name, flags, seed) for seed in seeds] for name in table.rows}
    folders = Counter(own.out for settings in runs.values() for own in settings)
    if twice := [folder for folder, count in folders.items() if count > 1]:
        raise ValueError(f"two rows have one folder, {twice[0]}: their names differ in signs alone; rename one")
    asked = EvaluationSettings(
        cache=str(Path(shared.out) / "features"),
        **probe_settings(options),
        shares=(),
        leave_source_out=False,
        zero_shot=False,
    )
    with stopped_by_signals(shared.out):
        run(table, runs, options.only or list(runs), shared.manifest, Path(shared.out), asked)


def run(
    table: AblationTable,
    runs: Mapping[str, Sequence[PretrainSettings]],
    rows: Sequence[str],
    manifest: str,
    out: Path,
    asked: EvaluationSettings,
) -> None:
    """Train and probe some rows, and write the page of all that are done.

    Args:
        table: the table.
        runs: name of a row -> the settings of its training, one for each seed.
        rows: names of those that are trained now.
        manifest: what they are trained on and probed by.
        out: folder of everything.
        asked: how they are probed; each of `_SPLITS` in turn takes the place of its split.
    """
    # here, because torch takes seconds to import
    from mgll.training.distributed import first_process
    from mgll.training.identity import made_of
    from mgll.training.pretraining import pretrain

    records = read_manifest(manifest)
    images = images_identity(records)
    made = {own.out: {**made_of(own), "images": images} for settings in runs.values() for own in settings}
    say = overall(sum(len(runs[name]) for name in rows))
    for name in rows:
        for settings in runs[name]:
            folder = Path(settings.out)
            if is_made(folder, made[settings.out]):  # every process sees the same: nothing changes but by all of them
                continue
            with first_process() as is_first:
                if is_first:
                    say(name)
                    begin_stage(folder, made[settings.out])
            try:
                pretrain(settings)
            except (ValueError, OSError) as error:
                raise ValueError(f"row {name}: {error}") from error
            with first_process() as is_first:
                if is_first:
                    finish_stage(folder)
    with first_process() as is_first:
        if is_first:
            done = {
                name: [own for own in map(Path, _folders(runs[name])) if is_made(own, made[str(own)])] for name in runs
            }
            _tell_others(runs, done)
            _write(out, table, done, records, {"records": sha256(manifest), "images": images}, asked)


def _folders(settings: Sequence[PretrainSettings]) -> list[str]:
    return [own.out for own in settings]


def _probed(
    folder: Path, records: Records, of: Mapping[str, str], asked: EvaluationSettings, split: Literal["test", "val"]
) -> Reading | None:
    """The probe's reading of a row's tower on a split, made once; None where no class can be read, which is said."""
    settings, path = replace(asked, split=split), folder / "probes" / f"{split}.npz"
    tower = tower_file(folder / "mgll.ckpt")
    made_of = {**of, "tower": tower.digest, "settings": settings.identity()}
    try:
        stage(path, made_of, lambda: save_evaluation(path, evaluate(tower, records, settings)))
    except NothingToReadError as error:
        print(f"{folder.name}, {split}: {error}")
        return None
    return load_evaluation(path)[PROBE]


def _tell_others(runs: Mapping[str, Sequence[PretrainSettings]], done: Mapping[str, Sequence[Path]]) -> None:
    kept = {str(folder) for folders in done.values() for folder in folders}
    others = [
        own.out for settings in runs.values() for own in settings if own.out not in kept and Path(own.out).exists()
    ]
    if others:
        print(f"left out, because they were made of something else or are not done: {', '.join(others)}")


def _write(
    out: Path,
    table: AblationTable,
    done: Mapping[str, Sequence[Path]],
    records: Records,
    of: Mapping[str, str],
    asked: EvaluationSettings,
) -> None:
    """Write the page of the first split in which anything can be read."""
    # here, because pandas takes a second to import
    from benchmark.leaderboard.ablation import ablation_result, markdown, write_ablation

    for split in _SPLITS:
        found = {name: [_probed(folder, records, of, asked, split) for folder in own] for name, own in done.items()}
        readings = {name: [one for one in own if one is not None] for name, own in found.items()}
        if any(readings.values()) or split == _SPLITS[-1]:
            result = ablation_result(table, readings, split)
            page = write_ablation(out, result)
            print(f"\n{markdown(result)}\npage: {page}")
            return


if __name__ == "__main__":
    sys.exit(main())
