"""Check a file of predictions."""

from benchmark.predictions.file import read_run
from mgll.formats import FormatError


def _main(arguments: list[str] | None = None) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="python -m benchmark.predictions", description=__doc__)
    parser.add_argument("command", choices=["validate"])
    parser.add_argument("file", help="predictions.jsonl, or the output directory that holds it")
    options = parser.parse_args(arguments)
    try:
        run = read_run(options.file)
    except FormatError as error:
        print(error)
        return 1
    correct = sum(row.correct for row in run.predictions)
    print(f"{options.file}: {len(run.predictions)} predictions of {run.name}, {correct} correct, valid")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
