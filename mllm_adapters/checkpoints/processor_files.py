"""The files of which a processor is made: a tokenizer, and how images are prepared."""

from pathlib import Path

from mgll.formats import FormatError
from mgll.weights.model_folder import read_json

#: Names under which a tokenizer lies in a checkpoint; one of them is enough.
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "qwen.tiktoken")
IMAGES, PROCESSOR = "preprocessor_config.json", "processor_config.json"


def has_tokenizer_file(directory: Path) -> bool:
    """Whether a tokenizer lies in a checkpoint, under any of its names."""
    return any((directory / name).is_file() for name in TOKENIZERS)


def check_processor_files(directory: Path, example: str) -> None:
    """Check that a processor can be made of what lies in a checkpoint.

    Without them transformers would look on the hub, or build a tokenizer of the right class that has no words.

    Args:
        directory: the checkpoint.
        example: hub id of one that has these files.

    Raises:
        FormatError: naming the files that are missing.
    """
    take = f"copy it from the checkpoint that the weights come from, such as {example}"
    if not has_tokenizer_file(directory):
        raise FormatError(directory, None, f"no tokenizer in it ({', '.join(TOKENIZERS[:3])}); {take}")
    # transformers 5 writes both into one file
    whole = (directory / PROCESSOR).is_file() and "image_processor" in read_json(directory / PROCESSOR)
    if not whole and not (directory / IMAGES).is_file():
        raise FormatError(directory, None, f"no {IMAGES} in it, which says how images are prepared; {take}")
