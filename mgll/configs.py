"""The settings files that come with the package: found by name wherever it is installed.

mgll configs                                                         # their paths
mgll pretrain --config paper_fundus.yaml --manifest fundus.jsonl     # one of them, by name
accelerate launch --config_file $(mgll configs zero2.json) ...       # for programs that want a path
"""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser, did_you_mean

FOLDER = "recipes/configs"


def configs() -> dict[str, Path]:
    """Name (`paper_fundus.yaml`, `ablations/table3_loss_terms.yaml`) -> path of every settings file; empty where there are none."""
    spec = find_spec("recipes")
    folders = [Path(folder) / "configs" for folder in (spec.submodule_search_locations if spec else None) or ()]
    return {
        path.relative_to(folder).as_posix(): path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".yaml", ".json")
    }


def find_config(named: str) -> str:
    """The path of a settings file: as it is named if there is such a file, else the one of this name that comes with the package.

    `paper_fundus.yaml` and `recipes/configs/paper_fundus.yaml` both name the package's own; a line on standard error says so.
    A name that is nowhere stays as it is.
    """
    if Path(named).exists():
        return named
    own = configs().get(named.removeprefix(f"{FOLDER}/"))
    if own is None:
        return named
    print(f"{named}: {own}, which comes with the package", file=sys.stderr)
    return str(own)


@ends_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the path of one settings file, or the names and paths of all."""
    parser = CommandParser("python -m mgll.configs", __doc__)
    parser.add_argument("name", nargs="?", help="one of them; without it, all are listed")
    options = parser.parse_args(arguments)
    known = configs()
    if options.name is None:
        print("\n".join(f"{name:40s}{path}" for name, path in known.items()))
        return 0
    named = options.name.removeprefix(f"{FOLDER}/")
    if named not in known:
        raise ValueError(f"no settings file {options.name} comes with the package{did_you_mean(named, list(known))}")
    print(known[named])
    return 0


if __name__ == "__main__":
    sys.exit(main())
