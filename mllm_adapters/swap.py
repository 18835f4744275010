"""Put a vision tower into a multimodal LLM: writes a new checkpoint directory, the old one stays as it is."""

from pathlib import Path

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser, as_typed
from mgll.published.recognition import tower_of
from mllm_adapters.contract.graft_record import Graft
from mllm_adapters.contract.host import Host
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.contract.token_policy import POLICIES
from mllm_adapters.graft.dry_run import DryRun, dry_run
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.hosts.registry import HOSTS, all_hosts, get_host, host_name
from mllm_adapters.hub import RUNS, add_trust_options, resolve_checkpoint, resolve_encoder, resolve_parts


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 on success and 1 after an error that was explained."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        print(list_hosts())
        return 0
    if not options.model or not options.encoder:
        parser.error("name --model and --encoder, or ask for --list")
    out = options.out or RUNS / f"{options.model}-mgll"
    settings = GraftSettings(
        tokens=options.tokens,
        feature_layer=options.feature_layer,
        feature_select=options.feature_select,
        connector=options.connector,
        seed=options.seed,
        warm=options.warm is not None,
    )
    host = get_host(options.model)
    encoder = tower_of(resolve_encoder(options.encoder), RUNS / "towers")
    source, named = resolve_checkpoint(host, options.checkpoint)
    parts = resolve_parts(
        host, options.part, source, own_tower=options.warm is not None, follow_links=options.follow_links
    )
    if options.dry_run:
        dry = dry_run(host, source, encoder, settings, parts, options.follow_links, options.verify)
        print(describe(host, named, dry, options.copy))
        return 0
    warm = warm_images(options.warm, options.warm_limit, options.seed)
    try:
        record = graft_tower(
            host,
            source,
            encoder,
            out,
            settings,
            copy=options.copy,
            named=named,
            parts=parts,
            warm=warm,
            follow_links=options.follow_links,
            verify=options.verify,
        )
    except OSError as error:  # a full disk, a folder that may not be written
        raise OSError(f"{error}; nothing was left at {out} (--dry-run says how much room it takes)") from error
    print(report(host, record, out))
    return 0


def warm_images(folder: Path | None, limit: int, seed: int) -> list[Path] | None:
    """Choose at most `limit` images from the folder of `--warm`; None where the option was not given.

    Raises:
        HostError: if the folder holds no image.
    """
    if folder is None:
        return None
    # here, because torch takes seconds to import
    from mllm_adapters.graft.warm import images_in

    return images_in(folder, limit, seed)


def list_hosts() -> str:
    """A table of all hosts by family: hub id, tower, connector, image tokens, and what loads a graft."""
    head = ("host", "default checkpoint", "its tower", "connector", "image tokens", "a graft loads in")
    families: dict[str, list[tuple[str, ...]]] = {}
    for host in all_hosts():
        loads = "plain transformers" if host.stock_towers else "mllm_adapters.load"
        families.setdefault(host.family, []).append((f"  {host.name}", host.checkpoint, *host.geometry, loads))
    rows = [head, *(row for family in families.values() for row in family)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]

    def line(row: tuple[str, ...]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

    shown = [text for family, hosts in families.items() for text in (family, *map(line, hosts))]
    return "\n".join([line(head), *shown])


def describe(host: Host, named: str, dry: DryRun, copy: bool) -> str:
    """Text that `--dry-run` prints: what would change, the bytes to write, disk and memory needed, and the parameters to train."""
    plan, rank = dry.plan, 16
    written = dry.rewritten + dry.arriving + (dry.linked if copy else 0)
    unlinked = written + (0 if copy else dry.linked)
    lora = sum(rank * (inputs + outputs) for inputs, outputs in dry.adapted)
    return "\n".join(
        [
            f"{host.title} from {named}: nothing was written",
            f"  tensors: {dry.replaced} from the donor, {len(plan.new)} new, {dry.dropped} dropped",
            *(f"  new: {tensor.name} {list(tensor.shape)}" for tensor in plan.new),
            f"  image tokens: {plan.features}",
            f"  to write: {_bytes(written)}, of which tower and new tensors {_bytes(dry.arriving)}, kept tensors of mixed"
            f" shards {_bytes(dry.rewritten)}",
            f"  disk needed: {_bytes(written)}; where files cannot be linked {_bytes(unlinked)}",
            f"  memory needed: about {_bytes(2 * dry.arriving)} beside Python and torch",
            f"  to train: {dry.connector:,} parameters of the connector, and with LoRA of rank {rank} on"
            f" {len(dry.adapted)} layers {lora:,}",
        ]
    )


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def report(host: Host, record: Graft, out: Path) -> str:
    """Text printed after a graft: what was done, what is new, whether the connector needs training, and what to type next."""
    new = record.changed("new")
    lines = [
        f"{host.title} from {record.source}, with the tower of {record.donor.path if record.donor else 'its own'}: {out}",
        f"  {len(record.changed('replaced'))} tensors replaced by the donor's, {len(record.changed('dropped'))} dropped;"
        f" {record.features} image tokens ({record.settings.tokens})",
        f"  new tensors: {', '.join(change.name for change in new) if new else 'none'}"
        + (f" ({'fitted' if record.warm else f'initialised, seed {record.settings.seed}'})" if new else ""),
    ]
    if record.warm:
        lines.append(
            f"  warm: a linear map to the old tower's tokens, fitted on {record.warm.images} images; it explains"
            f" {record.warm.explained:.1%} of their variance on images left out"
        )
    if record.loads_in != "transformers":
        lines.append(f"  {_why_ours(host, record)}: load it with mllm_adapters.load, not with transformers")
    if record.connector_needs_training:
        why = "holds new tensors" if new and not record.warm else "was trained for another tower"
        lines.append(f"  The connector {why}: train it before you judge the tower.")
    else:
        lines.append("  The donor is the host's own tower: nothing changed, the connector needs no training.")
    command = f"{as_typed('python recipes/finetune_mllm.py')} --model {out} --cases CASES.jsonl --out {out}-tuned"
    return "\n".join([*lines, f"next: {command}"])


def _why_ours(host: Host, record: Graft) -> str:
    """Reason why this graft does not load in plain transformers."""
    if ":" in host.model_class:
        return f"transformers has no class for {host.title}"
    if record.tower and record.tower.kind in host.stock_towers:
        return f"its tokens are {'pooled' if record.tower.tokens == 'pooled' else 'resized'} while it runs"
    if record.tower and host.stock_towers:
        return f"transformers' {host.model_class} cannot read a {record.tower.kind} tower"
    return f"transformers' {host.model_class} cannot build another tower than its own"


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m mllm_adapters.swap", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the hosts that there are")
    parser.add_argument("--model", type=host_name, choices=list(HOSTS), help="the host's family")
    parser.add_argument(
        "--encoder",
        metavar="TOWER",
        help="tower file (mgll.ckpt), or a published encoder: a file, a folder of transformers, open_clip or timm, LAYOUT:FILE, or"
        f" a hub id; it is converted once, into {RUNS}/towers, and what was assumed is printed",
    )
    parser.add_argument(
        "--checkpoint", help="folder, hub id, or `demo` for the embedded tiny host (default: the family's hub id)"
    )
    parser.add_argument("--out", type=Path, help=f"folder to write (default: {RUNS}/MODEL-mgll)")
    parser.add_argument(
        "--tokens",
        choices=POLICIES,
        default="native",
        help="native: the donor's own number of image tokens; resize_posemb: the host's number, position embeddings interpolated"
        " into the weights; resize_features: the host's number, features resized while running (needs mllm_adapters.load);"
        " pooled: one token, what the tower was trained to give (likewise)",
    )
    parser.add_argument(
        "--feature-layer", type=int, help="hidden state of the tower that the connector reads (default: the host's)"
    )
    parser.add_argument(
        "--feature-select", choices=["default", "full"], help="full keeps the class token (default: the host's)"
    )
    parser.add_argument(
        "--connector", choices=["keep", "new"], default="keep", help="keep the connector where it fits, or make it new"
    )
    parser.add_argument(
        "--warm",
        type=Path,
        metavar="IMAGES",
        help="folder of unlabelled images from which a linear map of the donor's tokens to the old tower's is fitted, so that the"
        " connector need not start anew",
    )
    parser.add_argument("--warm-limit", type=int, default=1000, help="at most so many of them, drawn with --seed")
    parser.add_argument("--seed", type=int, default=0, help="seed of new tensors")
    parser.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="NAME=DIR_OR_HUB_ID",
        help="a checkpoint that the host's own leaves out, such as the LLaMA of Med-Flamingo",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done and needed, write nothing")
    parser.add_argument("--copy", action="store_true", help="copy untouched shards instead of hard-linking them")
    add_trust_options(parser)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
