"""Say what there is to download, where and under which licence, and which reader makes a manifest of it.

python -m mgll.readers --list
"""

import argparse
from collections.abc import Sequence

from mgll.ending import ends_in_one_line
from mgll.readers.downloads import downloads_told


@ends_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the list."""
    parser = argparse.ArgumentParser(
        prog="python -m mgll.readers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="list data sets, by field; done in any case")
    parser.parse_args(arguments)
    print("\n".join(downloads_told()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
