"""Check a tower file, or show its header."""

import json
import math

from mgll.checking import check_command
from mgll.ending import ends_in_one_line
from mgll.tower.file import read_header, read_tower


@ends_in_one_line
def _main(arguments: list[str] | None = None) -> int:
    return check_command("python -m mgll.tower", __doc__, ["validate", "show"], "tower file", _check, arguments)


def _check(verb: str, path: str) -> str:
    tensors = read_tower(path)
    found = f"{path}: {sum(math.prod(t.shape) for t in tensors.values()) / 1e6:.1f} M parameters, valid"
    if verb == "show":
        return json.dumps(json.loads(read_header(path).model_dump_json(by_alias=True)), indent=2) + f"\n{found}"
    return found


if __name__ == "__main__":
    raise SystemExit(_main())
