"""Check a manifest, or count what is in it."""

from mgll.checking import check_command
from mgll.formats import FormatError
from mgll.images.files import image_exists
from mgll.manifest.counts import count, print_counts
from mgll.manifest.records import read_manifest


def _main(arguments: list[str] | None = None) -> int:
    return check_command("python -m mgll.manifest", __doc__, ["validate", "describe"], "manifest", _check, arguments)


def _check(verb: str, path: str) -> str:
    records = read_manifest(path)
    missing = [record.image for record in records if not image_exists(record.image)]
    if verb == "describe":
        from rich.console import Console  # takes a tenth of a second

        print_counts(count(records), Console())
    if missing:
        raise FormatError(path, None, f"{len(missing)} of {len(records)} images are not there, the first: {missing[0]}")
    return f"{path}: {len(records)} images, valid"


if __name__ == "__main__":
    raise SystemExit(_main())
