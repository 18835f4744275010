"""The same question about images, put to a model directory as the benchmark does."""

from pathlib import Path

from PIL import Image

from benchmark.scorer import Ask, Score
from benchmark.transformers_scorer import TransformersScorer

ORDER = ("one", "two", "three", "four")


def letter_scores(directory: Path, *images: Image.Image) -> list[Score]:
    asks = [Ask(image, "What is it?", (ORDER,)) for image in images]
    return [scores[0] for scores in TransformersScorer(directory).score(asks, ["letter"])]
