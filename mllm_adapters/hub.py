"""Checkpoints that the user names: a folder, a hub id, or the demo."""

import argparse
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub.errors import CachedRepoTreeNotFoundError
from tqdm.auto import tqdm

from mgll.formats import FormatError
from mllm_adapters.checkpoints.tensors import read_checkpoint
from mllm_adapters.contract.host import Host
from mllm_adapters.contract.terms import HostError

RUNS = Path("runs")


DEMO = "demo"


_SMALL = ["*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja"]
#: Endings of files of weights; the first that a repository has is taken, because the others hold the same weights again.
_WEIGHTS = (".safetensors", ".bin", ".pt")
_COPIES = r"^consolidated|^training_args|[._-](fp16|bf16|fp32|non_ema|ema)\b|^(optimizer|scheduler|rng_state)"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "qwen.tiktoken")
#: OWNER/NAME; a path may look the same, and is looked for first.
_HUB_ID = r"[\w-][\w.-]*/[\w.-]+"
_OPEN_CLIP = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


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
    if not re.fullmatch(_HUB_ID, named):
        raise HostError(f"--checkpoint {named}: no such folder, and not a hub id (OWNER/NAME) either")
    return _from_hub(host, named, tokenizer=True), named


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
        found[name] = path if path.exists() else _from_hub(host, where, tokenizer=False)
    return found


def _from_hub(host: Host, name: str, tokenizer: bool) -> Path:
    """The folder of a repository in the hub's cache; what is missing there is downloaded. Parts need no tokenizer."""
    try:
        return _repository(name, tokenizer)
    except HostError as error:
        raise HostError(
            f"{error}.\n"
            "Type one of these:\n"
            f"  python -m mllm_adapters.swap --model {host.name} --encoder ENCODER --checkpoint DIR   (a folder you have)\n"
            f"  python -m mllm_adapters.swap --model llava --encoder ENCODER --checkpoint demo  (the embedded tiny host)\n"
            f"  hf download {name}   (huggingface-cli download in old versions; where there is network; then swap again)"
        ) from None


def resolve_encoder(named: str) -> str:
    """The encoder that the user names: as it is, or the folder in the hub's cache of an id that is no path; downloaded if need be.

    Raises:
        HostError: if the hub has no such id, or cannot be reached.
    """
    is_path = Path(named).exists() or Path(named).suffix in (".ckpt", ".safetensors", *_WEIGHTS, ".pth")
    return named if is_path or not re.fullmatch(_HUB_ID, named) else str(_repository(named, tokenizer=False))


def _repository(name: str, tokenizer: bool) -> Path:
    found, cached = "is neither in the cache nor", _cached(name)
    if cached:
        if not (lacking := _lacks(cached, tokenizer)):
            return cached
        found = f"is not whole in the cache, {cached} ({lacking}), and not"
    try:
        directory = _download(name)
        if not (lacking := _lacks(directory, tokenizer)):
            return directory
        reason = f"what it has is not whole: {lacking}"
    except (OSError, ValueError, CachedRepoTreeNotFoundError) as error:  # what the hub's client raises
        reason = str(error).strip().splitlines()[0]
    raise HostError(f"{name} {found} to be had from the hub ({reason})")


def _cached(name: str) -> Path | None:
    """The folder of a repository in the cache, which may hold only some of its files."""
    from huggingface_hub import snapshot_download

    try:
        # the client compares with what is asked for, where it knows what the repository has
        return Path(snapshot_download(name, local_files_only=True, allow_patterns=["no file"]))
    except (OSError, ValueError):
        return None


def _download(name: str) -> Path:
    from huggingface_hub import get_cached_repo_tree, snapshot_download

    # a bar of its own: the hub's are silenced with those that every loading of weights shows (`mgll.quiet`)
    snapshot_download(name, allow_patterns=_SMALL)
    listed = [file.path for file in get_cached_repo_tree(name)]
    return Path(snapshot_download(name, allow_patterns=files_to_download(listed), tqdm_class=tqdm))


def files_to_download(listed: Sequence[str]) -> list[str]:
    """Which files of a repository make a checkpoint: its small files, and its weights in one form, safetensors where there are any.

    Weights in subfolders, in another precision beside the first, or in the layout of the makers' own code are further copies.
    """
    small = [name for name in listed if any(fnmatch(name, pattern) for pattern in _SMALL)]
    own = [name for name in listed if "/" not in name and not re.search(_COPIES, name)]
    weights = next((w for ending in _WEIGHTS if (w := [name for name in own if name.endswith(ending)])), [])
    return small + weights


def _lacks(directory: Path, tokenizer: bool) -> str:
    """What a folder lacks to be a checkpoint, its weights or a tokenizer; empty where it lacks neither."""
    if any(directory.glob("*.pt")) or any((directory / name).is_file() for name in _OPEN_CLIP):
        return ""  # such weights are all that their makers publish
    try:
        read_checkpoint(directory)
    except FormatError as error:
        return str(error).removeprefix(f"{directory}: ")
    return "" if not tokenizer or any((directory / name).is_file() for name in _TOKENIZERS) else "no tokenizer in it"
