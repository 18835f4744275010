"""PaliGemma: prompts as the stock processor makes them, but for what it adds behind them."""

from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from mgll.images.preprocessing import open_image
from mllm_adapters.loading.load import load


@torch.inference_mode()
def test_prompts_are_those_of_the_stock_processor(hosts: Callable[[str], Path], photographs: list[Path]) -> None:
    loaded = load(hosts("paligemma"))
    stock = transformers.AutoProcessor.from_pretrained(hosts("paligemma"))
    images, prompt = [open_image(photographs[0])], loaded.host.prompt("What?\nA. one")
    ours = loaded.processor(images=images, text=[prompt], return_tensors="pt")
    # the stock one puts a line break behind every text
    theirs = stock(images=images, text=[prompt.removesuffix("\n")], return_tensors="pt")
    assert ours.keys() == theirs.keys() - {"labels"}
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
