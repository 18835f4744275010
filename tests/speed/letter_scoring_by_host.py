"""Letter scoring in four orders against one order for every host, beside the bound that the numbers of tokens set.

    python tests/speed/letter_scoring_by_host.py [--hosts llava,qwen-vl] [--rounds 5]

The tests' tiny hosts with a decoder 512 wide and 6 layers deep, and as many image tokens as the real ones have where their tiny
builders allow it, so that arithmetic and not Python takes the time. Both are measured in turn, in seconds of one processor
core, which other work on the machine hardly changes.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "mllm_adapters"))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

from letter_scoring import FourOrders, one_quiet_thread, ratio_of
from rows import Row, at_most, say

#: What the builders in `tiny` are told, so that an image becomes as many tokens as in the real host.
IMAGES: dict[str, dict[str, int]] = {
    "llava": {"SIZE": 192},  # 576 tokens
    "llava-med": {"SIZE": 192},  # 576
    "internvl": {"SIZE": 256},  # 256 a tile
    "janus-pro": {"SIZE": 192},  # 576
    "instructblip": {"QUERIES": 32},
    "qwen-vl": {"SIZE": 128, "QUERY_GRID": 16},  # 256
    "mini-gemini": {"SIZE": 768, "LOW": 192},  # 576
}
WIDTH, LAYERS, HEADS = 512, 6, 8


def main() -> None:
    from mllm_adapters.hosts.registry import HOSTS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", default=",".join(HOSTS))
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    say(rows(options.hosts.split(","), options.cases, options.rounds))


def rows(hosts: Sequence[str] = ("qwen-vl",), count: int = 2, rounds: int = 1) -> Iterator[Row]:
    """For each host the time of four orders against what their tokens allow, both as multiples of one order."""
    one_quiet_thread()
    for name in hosts:
        with tempfile.TemporaryDirectory() as folder:
            orders = FourOrders(save_large(name, Path(folder) / name), count)
            ratio = ratio_of(rounds, orders.score, orders.score_one)
        note = f"prompts of {orders.whole} tokens that share {orders.shared}, {ratio:.2f} x one order"
        note += "; its prompts share no pass" if orders.whole_prompts else ""
        against = "the limit: what is shared once, four ends"
        yield at_most(f"letter scoring in 4 orders, {name}", against, ratio / orders.bound, 1.1, note)


def save_large(name: str, directory: Path) -> Path:
    """The tests' tiny host with a real number of image tokens and a larger decoder."""
    import torch
    from tiny.any_host import builder_of, save_tiny

    from mllm_adapters.loading.load import load

    builder = builder_of(name)
    for setting, value in IMAGES.get(name, {}).items():
        setattr(builder, setting, value)
    model = load(save_tiny(name, directory)).model
    for path in [*directory.glob("*.safetensors"), *directory.glob("*.index.json")]:
        path.unlink()
    torch.manual_seed(0)
    type(model)(larger(model.config)).save_pretrained(directory)
    return directory


def larger(config: Any) -> Any:
    """The configuration with a larger decoder, and whatever writes vectors for it."""
    found = config.to_dict()
    text, vision = found["text_config"], found["vision_config"]
    old = text["hidden_size"]
    text |= {"hidden_size": WIDTH, "intermediate_size": 1376, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    text |= {"num_key_value_heads": HEADS, "head_dim": WIDTH // HEADS, "max_position_embeddings": 4096}
    text.pop("layer_types", None)
    if "mrope_section" in (text.get("rope_parameters") or {}):
        text["rope_parameters"] |= {"mrope_section": [16, 8, 8]}
    for part in (vision, found.get("vq_config") or {}):
        widths = ("hidden_size", "out_hidden_size", "projection_dim", "image_token_embed_dim")
        part |= {key: WIDTH for key in widths if part.get(key) == old}
    return type(config).from_dict(found)


if __name__ == "__main__":
    main()
