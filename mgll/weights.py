"""Tensors of files: read without running anything, and compared with those that a model wants."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.formats import FormatError

if TYPE_CHECKING:
    from torch import Tensor

#: Under these names the tensors lie in files that hold more than them.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def misfits(found: Mapping[str, Any], expected: Mapping[str, Any], wanted_by: str) -> list[str]:
    """One phrase for every tensor that is missing, surplus or misshapen, sorted; empty where all fit.

    Args:
        found: tensors of the file, or their shapes.
        expected: tensors of the model, which may be on the meta device, or their shapes.
        wanted_by: what says how they should be ("the config says", "the model has").
    """
    has, wants = _shapes(found), _shapes(expected)
    problems = [f"{name} is missing" for name in wants.keys() - has.keys()]
    problems += [f"{name} is surplus" for name in has.keys() - wants.keys()]
    both = has.keys() & wants.keys()
    problems += [f"{name} is {has[name]}, {wanted_by} {wants[name]}" for name in both if has[name] != wants[name]]
    return sorted(problems)


def _shapes(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(getattr(value, "shape", value)) for name, value in tensors.items()}


def read_weights(path: Path) -> "dict[str, Tensor]":
    """The tensors of a safetensors file, or of one that `torch.save` or OpenAI's CLIP wrote, on the CPU. No code in it is run.

    Raises:
        FormatError: if there is no such file, it is damaged, or it holds anything but tensors and plain values.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise FormatError(path, None, "no such file of weights")
    if _is_pickle(path):
        return read_pickle(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise FormatError(path, None, f"no whole file of tensors ({error})") from None


def read_pickle(path: Path) -> "dict[str, Tensor]":
    """The tensors of a `.bin`, `.pt` or `.pth`, mapped where the file allows it; the same without the names that wrap them.

    Raises:
        FormatError: if it is damaged, or holds anything but tensors and plain values.
    """
    import torch

    content: Any
    try:
        if is_torchscript(path):
            content = _torchscript(path)
        else:
            try:
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError:  # files older than torch 1.6 are no zip archives and cannot be mapped
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own message advises to run whatever is in there
        raise FormatError(path, None, "damaged, or holds more than tensors; nothing in it was run") from None
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise FormatError(path, None, f"no whole file of tensors ({str(error).splitlines()[0]})") from None
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    named = content.items() if isinstance(content, dict) else ()
    tensors = {str(n).removeprefix("module."): t.detach() for n, t in named if isinstance(t, torch.Tensor)}
    if not tensors:
        raise FormatError(path, None, "holds no tensors")
    return tensors


def is_torchscript(path: Path) -> bool:
    """Whether the file is an archive of TorchScript, as OpenAI's CLIP is published."""
    import zipfile

    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _torchscript(path: Path) -> "dict[str, Tensor]":
    """The tensors of such an archive. Its reader is torch's own and knows no class of Python; the program in it is not called."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # nobody will publish these weights in another form
        program: Any = torch.jit.load(path, map_location="cpu")
    return dict(program.state_dict())
