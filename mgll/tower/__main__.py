"""Check a tower file, or show its header."""

import json

from mgll.formats import FormatError
from mgll.tower.file import load_tower, read_header, read_tensors


def _check_geometry(path: str) -> None:
    """Raise `FormatError` if the geometry in the header is not that of the tokens which the model makes of an image.

    The geometry of a CLIP tower is computed from its configuration and not checked.
    """
    if read_header(path).measured is None:
        return
    from mgll.tower.model import measure

    model, header = load_tower(path)
    found = measure(model, header.geometry.size)
    if found != header.geometry:
        raise FormatError(path, None, f"its tokens are {found}, the header says {header.geometry}")


def _main(arguments: list[str] | None = None) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="python -m mgll.tower", description=__doc__)
    parser.add_argument("command", choices=["validate", "show"])
    parser.add_argument("file")
    options = parser.parse_args(arguments)
    try:
        tensors = read_tensors(options.file)
        _check_geometry(options.file)
    except FormatError as error:
        print(error)
        return 1
    if options.command == "show":
        print(json.dumps(json.loads(read_header(options.file).model_dump_json(by_alias=True)), indent=2))
    print(f"{options.file}: {sum(t.numel() for t in tensors.values()) / 1e6:.1f} M parameters, valid")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
