"""Check a manifest, or count what is in it."""

from mgll.formats import FormatError
from mgll.images.files import image_exists
from mgll.manifest.counts import count, print_counts
from mgll.manifest.records import read_manifest


def _main(arguments: list[str] | None = None) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="python -m mgll.manifest", description=__doc__)
    parser.add_argument("command", choices=["validate", "describe"])
    parser.add_argument("file")
    options = parser.parse_args(arguments)
    try:
        records = read_manifest(options.file)
    except FormatError as error:
        print(error)
        return 1
    missing = [record.image for record in records if not image_exists(record.image)]
    if options.command == "describe":
        from rich.console import Console

        print_counts(count(records), Console())
    if missing:
        print(f"{options.file}: {len(missing)} of {len(records)} images are not there, the first: {missing[0]}")
        return 1
    if options.command == "validate":
        print(f"{options.file}: {len(records)} images, valid")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
