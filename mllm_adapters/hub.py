"""Checkpoints that the user names: a folder, a hub id, or the demo."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from mllm_adapters.checkpoints.tensors import read_checkpoint
from mllm_adapters.contract.host import Host
from mllm_adapters.contract.terms import HostError

RUNS = Path("runs")


DEMO = "demo"


_PATTERNS = ["*.json", "*.safetensors", "*.bin", "*.pt", "*.txt", "*.model", "*.tiktoken", "*.jinja"]


def resolve_checkpoint(host: Host, checkpoint: str | None) -> tuple[Path, str]:
    """Find the checkpoint that the user names: a folder, a hub id (taken from the cache or downloaded), or `demo`.

    Returns:
        Its directory, and the name under which it was found.

    Raises:
        HostError: if the name is none of these, or the download fails; the message says what to type.
    """
    named = checkpoint or host.checkpoint
    if Path(named).is_dir():
        return Path(named), named
    if named == DEMO:
        # here, because torch takes seconds to import
        from mllm_adapters.demo.host import demo_checkpoint

        if host.name != "llava":
            raise HostError(f"the embedded demo host is a LLaVA; --model {host.name} needs --checkpoint DIR")
        return demo_checkpoint(RUNS), named
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", named) or named.startswith((".", "/")):
        raise HostError(f"--checkpoint {named}: no such folder, and not a hub id (OWNER/NAME) either")
    return _from_hub(host, named), named


def add_trust_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that say how far a checkpoint from elsewhere is trusted."""
    parser.add_argument(
        "--follow-links",
        action="store_true",
        help="use files to which symbolic links in the checkpoint lead, even outside of its folder",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="look for NaN and infinity in every byte of the weights, not only in samples of large tensors",
    )


def resolve_parts(host: Host, named: Sequence[str]) -> dict[str, Path]:
    """Find the folders of a host's further checkpoints, given as `NAME=DIR_OR_HUB_ID` on the command line.

    A part that is not named is left out: the published checkpoint may hold it, and the host says so if it does not.

    Raises:
        HostError: if an argument does not have that form, names a part that the host does not have, or cannot be downloaded.
    """
    found = {}
    for item in named:
        name, _, where = item.partition("=")
        if not where or name not in host.parts:
            known = ", ".join(f"{part} (such as {hub})" for part, hub in host.parts.items()) or "none"
            raise HostError(f"--part {item}: give NAME=DIR_OR_HUB_ID; parts of {host.title}: {known}")
        path = Path(where)
        found[name] = path if path.exists() else _from_hub(host, where)
    return found


def _from_hub(host: Host, name: str) -> Path:
    from huggingface_hub import snapshot_download

    reason = ""
    for cached in (True, False):
        try:
            directory = Path(snapshot_download(name, local_files_only=cached, allow_patterns=_PATTERNS))
            if any(directory.glob("*.index.json")):  # a cache may hold half a checkpoint
                read_checkpoint(directory)
            return directory
        except (OSError, ValueError) as error:  # what the hub's client raises, and FormatError for half a checkpoint
            reason = str(error).strip().split("\n")[0]
    raise HostError(
        f"{name} is neither in the cache nor to be had from the hub ({reason}).\n"
        "Type one of these:\n"
        f"  python -m mllm_adapters.swap --model {host.name} --encoder ENCODER --checkpoint DIR   (a folder you have)\n"
        f"  python -m mllm_adapters.swap --model llava --encoder ENCODER --checkpoint demo  (the embedded tiny host)\n"
        f"  hf download {name}   (huggingface-cli download in old versions; where there is network; then swap again)"
    )
