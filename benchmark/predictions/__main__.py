"""Check a file of predictions."""

from benchmark.predictions.file import read_run
from mgll.checking import check_command
from mgll.ending import ends_in_one_line


@ends_in_one_line
def _main(arguments: list[str] | None = None) -> int:
    what = "predictions.jsonl, or the output directory that holds it"
    return check_command("python -m benchmark.predictions", __doc__, ["validate"], what, _check, arguments)


def _check(verb: str, path: str) -> str:
    run = read_run(path)
    correct, tied = (sum(getattr(row, what) for row in run.predictions) for what in ("correct", "tied"))
    also = f", {tied} tied" if tied else ""
    return f"{path}: {len(run.predictions)} predictions of {run.name}, {correct} correct{also}, valid"


if __name__ == "__main__":
    raise SystemExit(_main())
