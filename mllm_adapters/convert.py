"""Write an untouched host in the layout that `mllm_adapters.load` reads: the baseline that a graft is compared with.

python -m mllm_adapters.convert --model qwen-vl --checkpoint DIR_OR_HUB_ID
"""

from pathlib import Path

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mllm_adapters.graft.transplant import convert_host
from mllm_adapters.hosts.registry import HOSTS, get_host, host_name
from mllm_adapters.hub import RUNS, add_trust_options, resolve_checkpoint, resolve_parts


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 on success and 1 after an error that was explained."""
    parser = CommandParser(prog="python -m mllm_adapters.convert", description=__doc__)
    parser.add_argument("--model", required=True, type=host_name, choices=list(HOSTS), help="the host's family")
    parser.add_argument("--checkpoint", help="folder or hub id (default: the family's hub id)")
    parser.add_argument("--part", action="append", default=[], metavar="NAME=DIR_OR_HUB_ID", help="as for swap")
    parser.add_argument("--out", type=Path, help=f"folder to write (default: {RUNS}/MODEL)")
    parser.add_argument("--copy", action="store_true", help="copy shards that stay as they are instead of linking them")
    add_trust_options(parser)
    options = parser.parse_args(arguments)
    out = options.out or RUNS / options.model
    host = get_host(options.model)
    source, named = resolve_checkpoint(host, options.checkpoint)
    parts = resolve_parts(host, options.part, source, follow_links=options.follow_links)
    record = convert_host(
        host, source, out, options.copy, named, parts, follow_links=options.follow_links, verify=options.verify
    )
    print(f"{host.title} from {named}: {out}, {record.features} image tokens, loads in {record.loads_in}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
