"""Read tensors from files without running any code in them, and compare them with those that a model needs."""

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.formats import FormatError, no_file
from mgll.weights.finite import emptied, names_not_finite, not_finite
from mgll.weights.model_folder import check_entries
from mgll.weights.stored import read_stored

if TYPE_CHECKING:
    from torch import Tensor

#: Names of the entry with the tensors in files that hold more than tensors.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
#: Names of the file of weights in a folder; the first one that exists is taken.
_ENDINGS = (".safetensors", ".bin", ".pt", ".pth")
_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors", "pytorch_model.bin")


def misfits(found: Mapping[str, Any], expected: Mapping[str, Any], wanted_by: str) -> list[str]:
    """One phrase for every tensor that is missing, surplus, misshapen or of another kind of numbers, sorted; empty where all fit.

    Args:
        found: tensors of the file, or their shapes.
        expected: tensors of the model, which may be on the meta device, or their shapes.
        wanted_by: what determines the expected shapes ("the config says", "the model has").
    """
    has, wants = _shapes(found), _shapes(expected)
    problems = [f"{name} is missing" for name in wants.keys() - has.keys()]
    problems += [f"{name} is surplus" for name in has.keys() - wants.keys()]
    both = has.keys() & wants.keys()
    problems += [f"{name} is {has[name]}, {wanted_by} {wants[name]}" for name in both if has[name] != wants[name]]
    problems += [
        f"{name} holds {found[name].dtype}, {wanted_by} {expected[name].dtype}"
        for name in both
        if None not in (kinds := {_is_weight(found[name]), _is_weight(expected[name])}) and len(kinds) > 1
    ]
    return sorted(problems)


def _is_weight(tensor: Any) -> bool | None:
    """Whether a tensor in memory holds floating-point numbers; None for a mere shape, of which that is not known."""
    return tensor.is_floating_point() if hasattr(tensor, "is_floating_point") else None


def _shapes(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(getattr(value, "shape", value)) for name, value in tensors.items()}


def read_weights(path: Path) -> "dict[str, Tensor]":
    """The tensors of a safetensors file, or of one that `torch.save` or OpenAI's CLIP wrote, on the CPU.

    Raises:
        FormatError: if there is no such file, it is damaged, or it holds anything but tensors and plain values.
    """
    return read_pickle(path) if path.is_file() and is_pickle(path) else tensors_of(path, read_content(path))


def read_pickle(path: Path) -> "dict[str, Tensor]":
    """The tensors of a `.bin`, `.pt` or `.pth` file by name, on the CPU, memory-mapped if the file allows it.

    If they lie in an entry such as `state_dict` or `model`, that entry is opened.

    Raises:
        FormatError: if there is no such file, it is damaged, or it holds anything but tensors and plain values.
    """
    content = read_content(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    return tensors_of(path, content)


def read_content(path: Path) -> Any:
    """What a file of safetensors, `torch.save` or OpenAI's CLIP holds, on the CPU. No code in it is run.

    The content is memory-mapped where possible. The only Python class that it may hold is `argparse.Namespace`: many training
    scripts put their settings beside the weights.

    Raises:
        FormatError: if there is no such file, it is damaged, or it holds an object of another class.
    """
    # here, because torch takes seconds to import
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise FormatError(path, None, no_file(path).replace("file", "file of weights"))
    try:
        if not is_pickle(path):
            read_stored(path)  # which checks its header, and does not read one of a hundred megabytes
            return load_file(path)
        if is_torchscript(path):
            return _torchscript(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            try:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError:  # files older than torch 1.6 are no zip archives and cannot be mapped
                return torch.load(path, map_location="cpu", weights_only=True)
    except FormatError:
        raise
    except pickle.UnpicklingError as error:  # torch's own message advises to run whatever is in there
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        more = f" (it wants {wanted[1]}; to make one means to run code that the file names)" if wanted else ""
        raise FormatError(path, None, f"damaged, or holds more than tensors; nothing in it was run{more}") from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise FormatError(path, None, f"no whole file of tensors ({str(error).splitlines()[0]})") from None


def tensors_of(path: Path, content: Any) -> "dict[str, Tensor]":
    """The tensors among the entries of a file's content, by name.

    The prefix `module.`, which training in parallel puts before names, is removed.

    Raises:
        FormatError: if there are no tensors.
    """
    import torch

    named = content.items() if isinstance(content, dict) else ()
    tensors = {str(n).removeprefix("module."): t.detach() for n, t in named if isinstance(t, torch.Tensor)}
    if not tensors:
        raise FormatError(path, None, "holds no tensors")
    if odd := [name for name, tensor in tensors.items() if not _is_plain(tensor)]:
        raise FormatError(
            path, None, f"{odd[0]} is no plain tensor: sparse, quantised, complex, or larger than its bytes"
        )
    return tensors


def _is_plain(tensor: "Tensor") -> bool:
    """Whether a tensor has a value of its own for every entry; a few bytes repeated could claim any size."""
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def check_values(path: Path, tensors: "Mapping[str, Tensor]") -> None:
    """Check that a tower's tensors hold values, and that all of these are numbers.

    Raises:
        FormatError: naming the first that are empty, or hold NaN or infinity.
    """
    if empty := [name for name, tensor in tensors.items() if not tensor.numel()]:
        raise FormatError(path, None, emptied(empty))
    if wrong := names_not_finite(tensors):
        raise FormatError(path, None, not_finite(", ".join(wrong[:4])))


def file_in(folder: Path) -> Path:
    """Path of the file of weights in a folder as open_clip, timm and transformers write it, or else of its only one.

    Raises:
        FormatError: if the folder has no such file, or several under names of their own.
    """
    check_entries(folder, follow_links=True)
    path = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    own = sorted(path for path in folder.iterdir() if path.suffix in _ENDINGS) if path is None else [path]
    if len(own) > 1:
        names = ", ".join(path.name for path in own[:3]) + (", ..." if len(own) > 3 else "")
        raise FormatError(folder, None, f"{len(own)} files of weights in it ({names}): name one of them")
    if not own:
        raise FormatError(folder, None, f"none of {', '.join(_FILES)} in it, nor another file of weights")
    return own[0]


def is_torchscript(path: Path) -> bool:
    """Whether the file is an archive of TorchScript, as OpenAI's CLIP is published."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def is_pickle(path: Path) -> bool:
    """Whether the file begins as `torch.save` begins: a zip archive, or a pickle of protocol 2 to 5."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _torchscript(path: Path) -> "dict[str, Tensor]":
    """The tensors of a TorchScript archive by name.

    torch's own reader opens it, which makes no objects of Python classes; the program in the archive is not called.

    Raises:
        FormatError: if a class in the archive has code that the reader would run.
    """
    import torch

    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(set(names)) < len(names) or any(
            b"__setstate__" in archive.read(name) for name in names if "/code/" in name
        ):
            raise FormatError(
                path, None, "an archive of TorchScript with code that runs when it is opened; nothing in it was run"
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # nobody will publish these weights in another form
        program: Any = torch.jit.load(path, map_location="cpu")
    return dict(program.state_dict())
