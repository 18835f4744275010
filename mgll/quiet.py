"""What libraries say to their developers is not said to the users of a command."""

import logging
import os
import sys
import warnings

#: Set to anything, this environment variable lets the libraries say all that they say.
VERBOSE = "MGLL_VERBOSE"
_LIBRARIES = (
    "torch",
    "torchvision",
    "transformers",
    "accelerate",
    "peft",
    "timm",
    "open_clip",
    "bitsandbytes",
    "huggingface_hub",
)


def quiet() -> None:
    """Silence the libraries' notices, warnings of changes to come and bars of their own; errors and our own warnings stay.

    Our own come as one line, without the place in the source. Nothing is imported, and processes that are started take it over.
    """
    if os.environ.get(VERBOSE):
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # what has been imported already has looked at the environment
    if hub := sys.modules.get("huggingface_hub.constants"):
        hub.HF_HUB_DISABLE_PROGRESS_BARS = True  # type: ignore[attr-defined]
    if bars := sys.modules.get("huggingface_hub.utils.tqdm"):
        bars.disable_progress_bars()
    if said := sys.modules.get("transformers.utils.logging"):
        said.disable_progress_bar()
        said.set_verbosity_error()
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
    for setter in ("DeepSpeed", "bitsandbytes.backends.cpu.ops"):  # the level is set when they are imported
        logging.getLogger(setter).addFilter(_is_error)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.formatwarning = _one_line


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _one_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"warning: {' '.join(str(message).split())}\n"
