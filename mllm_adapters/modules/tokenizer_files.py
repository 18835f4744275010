"""A published tokenizer with further special tokens, as the JSON files that any transformers reads in the same way.

Old checkpoints hold only sentencepiece's `tokenizer.model`. transformers reads that through generated protobuf code, which many
environments cannot import; the pieces themselves are enough, and sentencepiece gives them without it.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgll.formats import FormatError
from mgll.weights.model_folder import read_json
from mllm_adapters.checkpoints.json_files import Json

CONFIG, MAP = "tokenizer_config.json", "special_tokens_map.json"


def has_tokenizer(directory: Path) -> bool:
    """Whether a folder holds a tokenizer that `read_tokenizer` reads."""
    return any((directory / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))


def read_tokenizer(directory: Path) -> Any:
    """Read the tokenizer of a Llama-like checkpoint from its `tokenizer.json`, or else from sentencepiece's model.

    LLaVA's own repository tokenises each stretch of text beside an image by itself, and a tokenizer puts a space in front of
    every text that it is given. This tokenizer therefore puts a space in front of each stretch between special tokens, and
    not only in front of the first.

    Raises:
        FormatError: if the checkpoint has neither file, or sentencepiece is needed and not installed.
    """
    # inside functions, because listing the hosts needs neither torch nor transformers
    from transformers import LlamaTokenizer, PreTrainedTokenizerFast

    if (directory / "tokenizer.json").is_file():
        fast = _fast(directory / "tokenizer.json")
        return PreTrainedTokenizerFast(tokenizer_object=fast, **settings_of(directory, fast.get_vocab()))
    from transformers.tokenization_utils_base import generate_merges

    vocabulary = read_pieces(directory)[1]
    ends = {key: _read(directory).get(key, key == "add_bos_token") for key in ("add_bos_token", "add_eos_token")}
    return LlamaTokenizer(
        vocab=vocabulary, merges=generate_merges(vocabulary), legacy=True, **ends, **settings_of(directory, vocabulary)
    )


def read_pieces(directory: Path) -> tuple[Any, dict[str, int]]:
    """Sentencepiece's model of a folder, and its pieces with their numbers.

    Raises:
        FormatError: if the folder has no such file, or sentencepiece is not installed.
    """
    path = directory / "tokenizer.model"
    if not path.is_file():
        raise FormatError(directory, None, "neither tokenizer.json nor tokenizer.model in it: not a whole checkpoint")
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise FormatError(path, None, "reading it needs sentencepiece: pip install sentencepiece") from None
    pieces = SentencePieceProcessor(model_file=str(path))
    return pieces, {pieces.id_to_piece(i): i for i in range(pieces.get_piece_size())}


def added_once(fast: Any, token: Mapping[str, Any]) -> None:
    """Add a token of the settings' form to a `tokenizers.Tokenizer`."""
    from tokenizers import AddedToken

    ways = {key: bool(token[key]) for key in ("single_word", "lstrip", "rstrip", "normalized") if key in token}
    special = bool(token.get("special"))
    added = AddedToken(token["content"], special=special, **{"normalized": not special, **ways})
    (fast.add_special_tokens if special else fast.add_tokens)([added])


def saved_json(saved: Any) -> dict[str, Json]:
    """The JSON files that a tokenizer or processor writes, by name."""
    with tempfile.TemporaryDirectory() as folder:
        saved.save_pretrained(folder)
        return {path.name: read_json(path) for path in sorted(Path(folder).glob("*.json"))}


def _fast(path: Path) -> Any:
    from tokenizers import Tokenizer

    content = read_json(path)
    before = content.get("pre_tokenizer") or {}
    if before.get("prepend_scheme") == "first":
        before["prepend_scheme"] = "always"
    try:
        return Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the Rust library raises this very class
        raise FormatError(path, None, f"no tokenizer ({error})") from None


def with_tokens(tokenizer: Any, image: str = "<image>", pad: str = "<pad>") -> dict[str, Json]:
    """JSON files of the tokenizer by name; an image and a padding token that it lacks are added to it first."""
    from transformers import AddedToken

    tokenizer.add_tokens([AddedToken(token, normalized=False, special=True) for token in (image, pad)], True)
    tokenizer.pad_token = pad
    files = {name: content for name, content in saved_json(tokenizer).items() if name in ("tokenizer.json", CONFIG)}
    # the general class does what tokenizer.json says; the family's own would rebuild it by rules that changed over the years
    files[CONFIG] |= {"tokenizer_class": "PreTrainedTokenizerFast", "extra_special_tokens": {"image_token": image}}
    files[MAP] = {name: str(getattr(tokenizer, name)) for name in _NAMED if getattr(tokenizer, name)}
    return files


_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")
#: What Llama calls its tokens; the first conversions of LLaMA-1 have empty texts in their settings instead.
_LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def settings_of(directory: Path, vocabulary: Mapping[str, int]) -> dict[str, Any]:
    """The old settings that still matter: named tokens, length and side of padding.

    A token without a text, on which transformers would recurse without end, is the one that Llama has under that name.
    """
    found = _read(directory)
    named = {key: found[key] for key in _NAMED if key in found}
    texts = {key: value["content"] if isinstance(value, dict) else value for key, value in named.items()}
    meant = {key: text or _LLAMA.get(key) for key, text in texts.items()}
    texts = {key: text for key, text in meant.items() if text and (texts[key] or text in vocabulary)}
    return texts | {key: found[key] for key in ("model_max_length", "padding_side") if key in found}


def _read(directory: Path) -> Json:
    found: Json = {}
    for name in (MAP, CONFIG):
        if (directory / name).is_file():
            found |= {key: value for key, value in read_json(directory / name).items() if value is not None}
    return found
