"""Check a tower file, or show its header."""

import json

from mgll.checking import check_command
from mgll.formats import FormatError
from mgll.tower.file import load_tower, read_header, read_tensors


def _check_geometry(path: str) -> None:
    """Raise `FormatError` if the geometry in the header is not that of the tokens which the model makes of an image.

    The geometry of a CLIP tower is computed from its configuration and not checked.
    """
    if read_header(path).measured is None:
        return
    # here, because torch takes seconds to import
    from mgll.tower.model import measure

    model, header = load_tower(path)
    found = measure(model, header.geometry.size)
    if found != header.geometry:
        raise FormatError(path, None, f"its tokens are {found}, the header says {header.geometry}")


def _main(arguments: list[str] | None = None) -> int:
    return check_command("python -m mgll.tower", __doc__, ["validate", "show"], "tower file", _check, arguments)


def _check(verb: str, path: str) -> str:
    tensors = read_tensors(path)
    _check_geometry(path)
    found = f"{path}: {sum(t.numel() for t in tensors.values()) / 1e6:.1f} M parameters, valid"
    if verb == "show":
        return json.dumps(json.loads(read_header(path).model_dump_json(by_alias=True)), indent=2) + f"\n{found}"
    return found


if __name__ == "__main__":
    raise SystemExit(_main())
