"""Checkpoints that the user names: a folder, a hub id, or the demo."""

import argparse
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub.errors import CachedRepoTreeNotFoundError
from tqdm.auto import tqdm

from mgll.formats import FormatError, check_there
from mgll.published.layouts import LAYOUTS
from mgll.weights.model_folder import check_entries
from mllm_adapters.checkpoints.processor_files import has_tokenizer_file
from mllm_adapters.checkpoints.tensors import read_checkpoint
from mllm_adapters.contract.host import Host
from mllm_adapters.contract.terms import HostError, fields_of

RUNS = Path("runs")
DEMO = "demo"
_SMALL = ["*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja"]
#: Endings of files of weights; the first that a repository has is taken, because the others hold the same weights again.
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_COPIES = r"^consolidated|^training_args|[._-](fp16|bf16|fp32|non_ema|ema)\b|^(optimizer|scheduler|rng_state)"
#: What LLaVA's own repository trains in full beside an adapter, always as a pickle.
_BESIDE_LORA = "non_lora_trainables.bin"
_ADAPTERS = ("adapter_model.bin", "adapter_model.safetensors", "mm_projector.bin")
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
    check_named(host, named)
    if Path(named).is_dir():
        return Path(named), named
    if named == DEMO:
        # here, because torch takes seconds to import
        from mllm_adapters.demo.host import demo_checkpoint

        return demo_checkpoint(RUNS), named
    return _from_hub(host, named, tokenizer=True), named


def check_named(host: Host, checkpoint: str | None) -> None:
    """Refuse the name of a checkpoint that can be no folder, hub id or `demo`, before anything that takes time.

    Raises:
        HostError: saying what it may be.
    """
    if checkpoint is None or Path(checkpoint).is_dir():
        return
    if checkpoint == DEMO and host.name != "llava":
        raise HostError(f"the embedded demo host is a LLaVA; {host.name} needs the folder or hub id of a checkpoint")
    if Path(checkpoint).is_file():
        raise HostError(f"checkpoint {checkpoint}: this is a file; give the folder that it lies in")
    if checkpoint != DEMO and not re.fullmatch(_HUB_ID, checkpoint):
        raise HostError(f"checkpoint {checkpoint}: no such folder, and not a hub id (OWNER/NAME) either")


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


def resolve_parts(
    host: Host, named: Sequence[str], checkpoint: Path, own_tower: bool = True, follow_links: bool = False
) -> dict[str, Path]:
    """Find the folders of all that a checkpoint leaves out: where the user says, else where the checkpoint or the family says.

    Args:
        host: the family.
        named: parts in the form `NAME=DIR_OR_HUB_ID`.
        checkpoint: folder of the checkpoint.
        own_tower: whether the host's own tower is needed; a graft that throws it away does without.
        follow_links: open files to which symbolic links in these folders lead, even outside of them.

    Raises:
        FormatError: if checkpoint or parts are damaged, incomplete, or have links that lead out of them.
        HostError: if an argument does not have that form, names a part that the host does not have, or cannot be downloaded.
    """
    found = {}
    for item in named:
        name, _, where = item.partition("=")
        if not where or name not in host.parts:
            known = ", ".join(f"{part} (such as {hub})" for part, hub in host.parts.items()) or "none"
            raise HostError(f"--part {item}: give NAME=DIR_OR_HUB_ID; parts of {host.title}: {known}")
        path = Path(where)
        found[name] = path if path.exists() else _from_hub(host, where, tokenizer=False, part=name)
    for folder in (checkpoint, *found.values()):
        check_entries(folder, follow_links)
    while lacking := _lacking(host, checkpoint, found, own_tower):
        name, where = next(iter(lacking.items()))  # one at a time: the base of an adapter may hold the tower
        print(f"{checkpoint} leaves its {name} out: taken from {where} (--part {name}=DIR_OR_HUB_ID takes another)")
        found[name] = Path(where) if Path(where).is_dir() else _from_hub(host, where, tokenizer=False, part=name)
        check_entries(found[name], follow_links)
    with fields_of(checkpoint):
        needed = host.left_out(checkpoint, found, own_tower=True)
    for name in found.keys() - needed.keys():
        print(f"--part {name}={found[name]} is not used: {checkpoint} leaves no {name} out")
    for name in needed.keys() - found.keys():
        print(f"{checkpoint} leaves its own tower ({name}) out, which is not needed: the donor takes its place")
    return found


def _lacking(host: Host, checkpoint: Path, found: Mapping[str, Path], own_tower: bool) -> dict[str, str]:
    with fields_of(checkpoint):
        return {n: where for n, where in host.left_out(checkpoint, found, own_tower).items() if n not in found}


def _from_hub(host: Host, name: str, tokenizer: bool, part: str | None = None) -> Path:
    """The folder of a repository in the hub's cache; what is missing there is downloaded. Parts need no tokenizer."""
    if part and not re.fullmatch(_HUB_ID, name):
        raise HostError(
            f"the checkpoint leaves its {part} out and names it {name!r}, which is no folder here; add --part"
            f" {part}=DIR_OR_HUB_ID (such as {host.parts[part]})"
        )
    try:
        return _repository(name, tokenizer)
    except HostError as error:
        if part:
            raise HostError(
                f"{error}: it is the {part} that the checkpoint leaves out; give the folder that you have, --part {part}=DIR, or"
                f" where there is network: hf download {name}"
            ) from None
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
    return named if _is_path(named) else str(_repository(named, tokenizer=False))


def check_encoder(named: str) -> None:
    """Refuse the name of an encoder that can be no file, folder, LAYOUT:FILE or hub id, before anything that takes time.

    Raises:
        FormatError: if there is no such file.
    """
    layout, _, file = named.partition(":")
    if layout in (*LAYOUTS, "hf") and file:
        check_there(file)
    elif _is_path(named):
        check_there(named)


def _is_path(encoder: str) -> bool:
    return Path(encoder).exists() or Path(encoder).suffix in (".ckpt", *_WEIGHTS) or not re.fullmatch(_HUB_ID, encoder)


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
    bar: Any = tqdm
    return Path(snapshot_download(name, allow_patterns=files_to_download(listed), tqdm_class=bar))


def files_to_download(listed: Sequence[str]) -> list[str]:
    """Which files of a repository make a checkpoint: its small files, and its weights in one form, safetensors where there are any.

    Weights in subfolders, in another precision beside the first, or in the layout of the makers' own code are further copies.
    """
    small = [name for name in listed if any(fnmatch(name, pattern) for pattern in _SMALL)]
    own = [name for name in listed if "/" not in name and not re.search(_COPIES, name)]
    weights = next((w for ending in _WEIGHTS if (w := [name for name in own if name.endswith(ending)])), [])
    return small + weights + [name for name in own if name == _BESIDE_LORA and name not in weights]


def _lacks(directory: Path, tokenizer: bool) -> str:
    """What a folder lacks to be a checkpoint, its weights or a tokenizer; empty where it lacks neither."""
    alone = _OPEN_CLIP if any(directory.glob("*.index.json")) else (*_OPEN_CLIP, *_ADAPTERS)
    if any(directory.glob("*.pt*")) or any((directory / name).is_file() for name in alone):
        return ""  # such weights are all that their makers publish
    try:
        read_checkpoint(directory)
    except FormatError as error:
        return str(error).removeprefix(f"{directory}: ")
    return "" if not tokenizer or has_tokenizer_file(directory) else "no tokenizer in it"
