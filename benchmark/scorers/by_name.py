"""The scorer that a name stands for: what is typed behind `--model`."""

from collections.abc import Callable
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmark.scorers.endpoint_scorer import EndpointScorer
from benchmark.scorers.lmms_eval_scorer import LmmsEvalScorer
from benchmark.scorers.scorer import Scorer, dummy
from mgll.device import usual_device
from mgll.formats import FormatError
from mgll.plugins import load_plugin, plugins
from mllm_adapters.loading.load import check_model as check_folder
from mllm_adapters.loading.options import USUAL

#: What stands before a colon besides plug-ins.
_KINDS = ("constant", "openai", "lmms-eval")


def check_model(model: str) -> None:
    """Refuse a `--model` value that names nothing, before anything that takes time.

    Raises:
        FormatError: if there is no such directory, or it is no model's.
        ValueError: for a dummy that there is not.
    """
    if Path(model).exists():
        check_folder(model)
        return
    if dummy(model) or model.partition(":")[0] in _KINDS or _plugged(model):
        return
    raise FormatError(
        model,
        None,
        "no such directory; give a host, a graft or a LoRA directory, constant:A, lmms-eval:MODEL:ARGS, openai:MODEL, or a"
        " scorer of your own as PACKAGE.MODULE:FUNCTION (docs/plug_ins.md)",
    )


def _plugged(model: str) -> tuple[Callable[..., Scorer], str] | None:
    """The scorer of another package that a `--model` value names: what makes it, and what it is given; None for anything else.

    Raises:
        ValueError: if there is such a plug-in, module or package, and it cannot be imported or lacks what is named.
    """
    kind, colon, spec = model.partition(":")
    if entry := plugins("scorers", _KINDS).get(kind):
        return load_plugin(entry), spec
    if not colon or not all(part.isidentifier() for part in (*kind.split("."), spec)):
        return None
    try:
        if find_spec(kind) is None:
            return None
    except ModuleNotFoundError:
        return None
    return load_plugin(EntryPoint(model, model, "mgll_graft.scorers")), ""


def load_scorer(
    model: str,
    device: str | None = None,
    name: str | None = None,
    endpoint: str | None = None,
    **how: Any,
) -> Scorer:
    """The scorer that a `--model` value names.

    Args:
        model: a directory, a dummy, or another program's model.
        device: torch device; default a GPU where there is one.
        name: what reports call the model.
        endpoint: address of the server that an `openai:` model is behind.
        how: `dtype`, `quantize` and `device_map` of `mllm_adapters.load`.

    Raises:
        FormatError: if there is no such directory, or it holds no model.
        ValueError: for a dummy that there is not, or a model that cannot be had, or has a precision of its own.
    """
    check_model(model)
    kind, _, spec = model.partition(":")
    scorer = dummy(model)
    given = [f"--{name.replace('_', '-')}" for name, value in how.items() if value != USUAL[name]]
    if given and (scorer or kind in ("openai", "lmms-eval")):
        raise ValueError(f"{' and '.join(given)}: for directories only; {model} holds its weights in its own way")
    if scorer:
        return scorer
    if kind == "openai":
        return EndpointScorer(spec, endpoint, name)
    if plugged := None if Path(model).is_dir() else _plugged(model):
        make, spec = plugged
        return make(spec, device, name)
    device = device or usual_device()
    if kind == "lmms-eval":
        return LmmsEvalScorer(spec, device, name)
    from benchmark.scorers.transformers_scorer import TransformersScorer

    return TransformersScorer(model, device, name, **how)
