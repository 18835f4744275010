"""Put a vision tower into a multimodal LLM: writes a new checkpoint directory, the old one stays as it is."""

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mgll.formats import FormatError
from mllm_adapters.host import GraftSettings, Host, HostError
from mllm_adapters.registry import HOSTS, get_host
from mllm_adapters.token_policy import POLICIES

if TYPE_CHECKING:
    from mllm_adapters.graft import Graft

RUNS = Path("runs")
DEMO = "demo"
_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when the graft was written."""
    options = _parser().parse_args(arguments)
    out = options.out or RUNS / f"{options.model}-mgll"
    settings = GraftSettings(
        tokens=options.tokens,
        feature_layer=options.feature_layer,
        feature_select=options.feature_select,
        connector=options.connector,
        seed=options.seed,
    )
    try:
        host = get_host(options.model)
        _check_encoder(options.encoder)
        source, named = resolve_checkpoint(host, options.checkpoint)
        from mllm_adapters.transplant import graft

        record = graft(host, source, options.encoder, out, settings, copy=options.copy, named=named)
    except (FormatError, HostError) as error:
        print(f"swap: {error}", file=sys.stderr)
        return 1
    print(report(host, record, out))
    return 0


def resolve_checkpoint(host: Host, checkpoint: str | None) -> tuple[Path, str]:
    """The directory of a checkpoint, and what it is called: a folder, a hub id from cache or hub, or `demo`.

    Raises:
        HostError: if it is none of these or cannot be had; the message says what to type.
    """
    named = checkpoint or host.checkpoint
    if Path(named).is_dir():
        return Path(named), named
    if named == DEMO:
        from mllm_adapters.demo_host import demo_checkpoint

        if host.name != "llava":
            raise HostError(f"the embedded demo host is a LLaVA; --model {host.name} needs --checkpoint DIR")
        return demo_checkpoint(RUNS), named
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", named) or named.startswith((".", "/")):
        raise HostError(f"--checkpoint {named}: no such folder, and not a hub id (OWNER/NAME) either")
    return _from_hub(host, named), named


def _from_hub(host: Host, name: str) -> Path:
    from huggingface_hub import snapshot_download

    from mllm_adapters.surgery import read_checkpoint

    reason = ""
    for cached in (True, False):
        try:
            directory = Path(snapshot_download(name, local_files_only=cached, allow_patterns=_PATTERNS))
            read_checkpoint(directory)
            return directory
        except (OSError, ValueError) as error:  # what the hub's client raises, and FormatError for half a checkpoint
            reason = str(error).strip().split("\n")[0]
    raise HostError(
        f"{name} is neither in the cache nor to be had from the hub ({reason}).\n"
        "Type one of these:\n"
        f"  python -m mllm_adapters.swap --model {host.name} --encoder ENCODER --checkpoint DIR   (a folder you have)\n"
        f"  python -m mllm_adapters.swap --model {host.name} --encoder ENCODER --checkpoint demo  (the embedded tiny host)\n"
        f"  hf download {name}   (huggingface-cli download in old versions; where there is network; then swap again)"
    )


def report(host: Host, record: "Graft", out: Path) -> str:
    """What was done, what is new, whether the connector needs training, and what to type next."""
    new = record.changed("new")
    lines = [
        f"{host.title} from {record.source}, with the tower of {record.donor.path if record.donor else 'its own'}: {out}",
        f"  {len(record.changed('replaced'))} tensors replaced by the donor's, {len(record.changed('dropped'))} dropped;"
        f" {record.features} image tokens ({record.settings.tokens})",
        f"  new tensors: {', '.join(change.name for change in new) if new else 'none'}"
        + (f" (initialised, seed {record.settings.seed})" if new else ""),
    ]
    if record.loads_in != "transformers":
        lines.append(
            "  features are resized or pooled while running: load it with mllm_adapters.load, plain transformers will refuse"
        )
    if record.connector_needs_training:
        why = "holds new tensors" if new else "was trained for another tower"
        lines.append(f"  The connector {why}: train it before you judge the tower.")
    else:
        lines.append("  The donor is the host's own tower: nothing changed, the connector needs no training.")
    command = f"python recipes/finetune_mllm.py --model {out} --cases CASES.jsonl --out {out}-tuned"
    return "\n".join([*lines, f"next: {command}"])


def _check_encoder(encoder: Path) -> None:
    """Say what is wrong with the tower file before a checkpoint of gigabytes is fetched."""
    from mgll.tower import read_header

    read_header(encoder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mllm_adapters.swap", description=__doc__)
    parser.add_argument("--model", required=True, choices=sorted(HOSTS), help="the host's family")
    parser.add_argument("--encoder", required=True, type=Path, help="tower file (mgll.ckpt)")
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
    parser.add_argument("--seed", type=int, default=0, help="of new tensors")
    parser.add_argument("--copy", action="store_true", help="copy untouched shards instead of hard-linking them")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
