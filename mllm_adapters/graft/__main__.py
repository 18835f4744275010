"""Check a graft, or show its record."""

from mgll.formats import FormatError
from mllm_adapters.contract.terms import HostError
from mllm_adapters.graft.validation import validate


def _main(arguments: list[str] | None = None) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="python -m mllm_adapters.graft", description=__doc__)
    parser.add_argument("command", choices=["validate", "show"])
    parser.add_argument("directory")
    options = parser.parse_args(arguments)
    try:
        record = validate(options.directory)
    except (FormatError, HostError) as error:
        print(error)
        return 1
    if options.command == "show":
        print(record.model_dump_json(by_alias=True, indent=2))
    counts = ", ".join(f"{len(record.changed(what))} {what}" for what in ("replaced", "new", "dropped"))
    print(f"{options.directory}: {record.host} graft, {counts} tensors, {record.features} image tokens, valid")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
