"""The same question about images, put to a model directory as the benchmark does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmark.scorers.scorer import Ask, Score
from benchmark.scorers.transformers_scorer import TransformersScorer
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.prompting import answer_slot

QUESTION = "What is it?\nA. one\nB. two\nC. three\nD. four"
ORDER = ("one", "two", "three", "four")


def letter_scores(directory: Path, *images: Image.Image, **how: Any) -> list[Score]:
    asks = [Ask(image, "What is it?", (ORDER,)) for image in images]
    return [scores[0] for scores in TransformersScorer(directory, **how).score(asks, ["letter"])]


@torch.inference_mode()
def last_logits(loaded: LoadedHost, images: Sequence[Image.Image], prompts: Sequence[str]) -> torch.Tensor:
    """Logits [batch, vocabulary] after each prompt, by the processor and the model alone: what everything faster must equal."""
    inputs = loaded.processor(
        images=list(images), text=list(prompts), padding=True, padding_side="left", return_tensors="pt"
    ).to(loaded.model.device)
    start = answer_slot.decoder_start(loaded.model.config)
    if start is not None:
        inputs["decoder_input_ids"] = torch.full((len(prompts), 1), start, device=loaded.model.device)
    options = answer_slot.forward_options(loaded.model, loaded.host, inputs["attention_mask"], keep=1)
    return loaded.model(**inputs, **options).logits[:, -1].float()
