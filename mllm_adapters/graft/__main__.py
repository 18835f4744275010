"""Check a graft, or show its record."""

from mgll.checking import check_command
from mgll.ending import ends_in_one_line
from mllm_adapters.graft.validation import validate


@ends_in_one_line
def _main(arguments: list[str] | None = None) -> int:
    what = "directory of the graft"
    flags = {"verify": "look for NaN and infinity in every byte of the weights, not only in samples of large tensors"}
    return check_command("python -m mllm_adapters.graft", __doc__, ["validate", "show"], what, _check, arguments, flags)


def _check(verb: str, path: str, verify: bool) -> str:
    record = validate(path, verify)
    counts = ", ".join(f"{len(record.changed(what))} {what}" for what in ("replaced", "new", "dropped"))
    found = f"{path}: {record.host} graft, {counts} tensors, {record.features} image tokens, valid"
    return f"{record.model_dump_json(by_alias=True, indent=2)}\n{found}" if verb == "show" else found


if __name__ == "__main__":
    raise SystemExit(_main())
