"""Files of a graft beside its weights."""

import json
from pathlib import Path

from mgll import kept_hashes
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.tensors import place
from mllm_adapters.contract.graft_record import GRAFT, read_graft
from mllm_adapters.contract.terms import HostError, Source

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx")


def _check_out(out: Path, source: Path) -> None:
    if out.resolve() == source.resolve() or source.resolve().is_relative_to(out.resolve()):
        raise HostError(
            f"--out {out} is, or holds, the checkpoint itself, which is never changed; choose another folder"
        )
    if out.is_dir() and any(out.iterdir()):
        known = {*read_graft(out).files, GRAFT, kept_hashes.NAME} if (out / GRAFT).is_file() else set()
        foreign = sorted(path.name for path in out.iterdir() if path.name not in known)
        if foreign:
            raise HostError(
                f"--out {out} holds files that are no graft's ({', '.join(foreign[:4])}); choose another folder"
            )
    elif out.exists() and not out.is_dir():
        raise HostError(f"--out {out} is a file")


def write_files(source: Source, files: dict[str, Json], out: Path) -> None:
    """Write all files of a graft but its weights; config.json last, because nothing loads without it."""
    for path in sorted(source.directory.rglob("*")):  # some hosts have a second tokenizer, in a subfolder
        relative = path.relative_to(source.directory)
        weights = path.suffix in _WEIGHTS or path.name.endswith(".index.json") or path.name == GRAFT
        left = weights or str(relative).startswith(".") or any(path.match(pattern) for pattern in source.leave)
        if path.is_file() and not left and str(relative) not in files:
            (out / relative).parent.mkdir(exist_ok=True, parents=True)
            place(path, out / relative, copy=True)
    for name in sorted(files, key=lambda name: name == "config.json"):
        (out / name).write_text(json.dumps(files[name], indent=2) + "\n", encoding="utf-8")
