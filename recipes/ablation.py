r"""Train the rows of one of the paper's ablation tables, probe each tower, and set the results beside the paper's.

    accelerate launch recipes/ablation.py recipes/configs/ablations/table3_loss_terms.yaml \
        --config recipes/configs/paper_fundus.yaml --manifest fundus.jsonl --out runs/table3

All flags of `pretrain_mgll.py` are taken; a row's settings go over them. `--only ROW` trains one row, so that rows can be shared
out over machines. Started again, rows that are done are not trained again, unless what they were made of has changed. summary.md
tells of all that are.

Research use only, not for diagnosis.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mgll.commandline import parse_settings, stopped_by_signals
from mgll.configs import find_config
from mgll.ending import ends_in_one_line
from mgll.files import write_text
from mgll.flags import CommandParser
from mgll.formats import FormatError, check_there
from mgll.linear_probe import macro_auc, probe_tower
from mgll.manifest.image_identity import images_identity
from mgll.manifest.records import read_manifest
from mgll.progress import overall
from mgll.settings import PretrainSettings
from mgll.stage import begin_stage, finish_stage, is_made
from mgll.training.ablation_tables import AblationTable, read_table, row_settings, summary

PROBE = "probe.txt"


@ends_in_one_line
def main(arguments: list[str] | None = None) -> None:
    """Parse the flags and run the rows."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("table", help="a file of recipes/configs/ablations/, or a table of your own")
    parser.add_argument("--only", action="append", metavar="ROW", help="may be given several times; default: all rows")
    options, flags = parser.parse_known_args(arguments)
    shared = parse_settings(PretrainSettings, "", flags)
    table = read_table(find_config(options.table))
    if unknown := set(options.only or ()) - table.rows.keys():
        raise ValueError(f"--only: no row {', '.join(unknown)}; there are: {'; '.join(table.rows)}")
    if shared.manifest is None:
        raise ValueError("name a manifest: --manifest FILE")
    check_there(shared.manifest, shared.start_weights)
    settings = {name: row_settings(table, name, flags) for name in table.rows}
    with stopped_by_signals(shared.out):
        run(table, settings, options.only or list(settings), shared.manifest, Path(shared.out))


def run(
    table: AblationTable, settings: Mapping[str, PretrainSettings], rows: Sequence[str], manifest: str, out: Path
) -> None:
    """Train and probe some rows, and write summary.md of all that are done."""
    # here, because torch takes seconds to import
    from mgll.training.distributed import first_process
    from mgll.training.identity import made_of
    from mgll.training.pretraining import pretrain

    images = images_identity(read_manifest(manifest))
    made = {name: {**made_of(own), "images": images} for name, own in settings.items()}
    folders = {name: Path(own.out) for name, own in settings.items()}
    say = overall(len(rows))
    for name in rows:
        with first_process() as is_first:
            if is_first:
                say(name)
                begin_stage(folders[name], made[name])
        try:
            tower = pretrain(settings[name])
        except (ValueError, OSError) as error:
            raise ValueError(f"row {name}: {error}") from error
        with first_process() as is_first:
            if is_first:
                write_text(folders[name] / PROBE, _probe(tower, manifest))
                finish_stage(folders[name])
    with first_process() as is_first:
        if is_first:
            same = [name for name in settings if is_made(folders[name], made[name])]
            measured = {name: (folders[name] / PROBE).read_text(encoding="utf-8") for name in same}
            if others := [name for name in settings if name not in same and folders[name].exists()]:
                print(f"left out, because they were made of something else or are not done: {', '.join(others)}")
            write_text(out / "summary.md", summary(table, measured))
            print(f"\n{summary(table, measured)}\n{out / 'summary.md'}")


def _probe(tower: Path, manifest: str) -> str:
    """What a linear probe finds on the test split, or the validation split of a manifest that has no other."""
    for split in ("test", "val"):
        try:
            results = probe_tower(tower, manifest, split)
        except FormatError:
            continue
        return f"macro AUC {macro_auc(results):.3f} over {len(results)} classes of {split}"
    return "no class to probe for"


if __name__ == "__main__":
    sys.exit(main())
