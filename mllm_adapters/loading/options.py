"""Options of commands that load a model: how its weights are held."""

import argparse
from typing import Any

from mllm_adapters.settings import DTYPES, QUANTISATIONS

#: What the options are where nothing is said, by the names that `load` gives them.
USUAL: dict[str, Any] = {"dtype": "auto", "quantize": "no", "device_map": None}


def add_weight_options(parser: argparse.ArgumentParser) -> None:
    """Add `--dtype`, `--quantize` and `--device-map`, whose values `load` takes under the same names."""
    add = parser.add_argument
    add("--dtype", choices=DTYPES, default="auto", help="precision of the weights (default: by checkpoint and device)")
    add("--quantize", choices=QUANTISATIONS, default="no", help="language model in 4 or 8 bits, with bitsandbytes")
    add(
        "--device-map",
        choices=["auto"],
        help="spread a model that is larger than one card over all cards",
    )
