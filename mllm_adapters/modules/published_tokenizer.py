"""A tokenizer as its makers publish it, with every token at its published number, read without code of theirs.

The published files are one of three: `tokenizer.json`; the byte pairs `vocab.json` and `merges.txt`; or sentencepiece's
`tokenizer.model`. What was added later stands in the settings with its number, often that of an unused piece.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgll.formats import FormatError
from mgll.weights.model_folder import read_json
from mllm_adapters.modules.tokenizer_files import CONFIG, added_once, read_pieces, settings_of

#: Files that hold what `tokenizer.json` says again, or code.
LEFT_BEHIND = ("*.py", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json")


def published_tokenizer(directory: Path, eos: str | None = None, **roles: str) -> Any:
    """Build the tokenizer of a folder.

    Args:
        directory: the checkpoint.
        eos: the token that ends an answer, where it is not the one that the settings name.
        roles: tokens by the attribute under which a processor looks for them.

    Raises:
        FormatError: if there is no tokenizer, or tokens cannot have their published numbers.
    """
    # inside functions, because listing the hosts needs neither torch nor transformers
    from transformers import PreTrainedTokenizerFast

    added = _added(directory)
    fast = _base(directory, added)
    for number, token in sorted(added.items()):
        added_once(fast, token)
        if (found := fast.token_to_id(token["content"])) != number:
            raise FormatError(
                directory, None, f"its token {token['content']} would have the number {found}, not {number}"
            )
    if lacking := [token for token in (*roles.values(), eos) if token and fast.token_to_id(token) is None]:
        raise FormatError(directory, None, f"its tokenizer has no {', '.join(sorted(set(lacking)))}")
    named = settings_of(directory, fast.get_vocab()) | ({"eos_token": eos} if eos else {})
    # a token without a number would get one that the embeddings do not have
    named = {k: v for k, v in named.items() if not k.endswith("_token") or fast.token_to_id(v) is not None}
    if "pad_token" not in named and "eos_token" in named:
        named["pad_token"] = named["eos_token"]
    return PreTrainedTokenizerFast(tokenizer_object=fast, extra_special_tokens=dict(roles), **named)


def _added(directory: Path) -> dict[int, dict[str, Any]]:
    """Tokens that were added, by their numbers."""
    settings = read_json(directory / CONFIG) if (directory / CONFIG).is_file() else {}
    found = {int(number): token for number, token in (settings.get("added_tokens_decoder") or {}).items()}
    if not found and (directory / "added_tokens.json").is_file():
        found = {
            int(i): {"content": text, "special": True} for text, i in read_json(directory / "added_tokens.json").items()
        }
    return found


def _base(directory: Path, added: Mapping[int, dict[str, Any]]) -> Any:
    """The `tokenizers.Tokenizer` of the published files, before tokens are added."""
    from tokenizers import Tokenizer
    from transformers import LlamaTokenizer, Qwen2Tokenizer
    from transformers.tokenization_utils_base import generate_merges

    if (directory / "tokenizer.json").is_file():
        try:
            return Tokenizer.from_str(json.dumps(read_json(directory / "tokenizer.json")))
        except Exception as error:  # the Rust library raises this very class
            raise FormatError(directory / "tokenizer.json", None, f"no tokenizer ({error})") from None
    if (directory / "vocab.json").is_file() and (directory / "merges.txt").is_file():
        lines = (directory / "merges.txt").read_text(encoding="utf-8").split("\n")
        merges: Any = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
        unnamed: Any = dict.fromkeys(("unk_token", "bos_token", "eos_token", "pad_token"))
        return Qwen2Tokenizer(read_json(directory / "vocab.json"), merges, **unnamed).backend_tokenizer
    pieces, vocabulary = read_pieces(directory)
    unused = {number: piece for piece, number in vocabulary.items() if number in added}
    vocabulary = {added[i]["content"] if i in unused else piece: i for piece, i in vocabulary.items()}
    spaced = pieces.encode("a", out_type=str)[0].startswith("▁")
    settings = read_json(directory / CONFIG) if (directory / CONFIG).is_file() else {}
    ends = {key: bool(settings.get(key, key == "add_bos_token")) for key in ("add_bos_token", "add_eos_token")}
    merges = generate_merges(vocabulary, skip_tokens={token["content"] for token in added.values()})
    return LlamaTokenizer(vocabulary, merges, legacy=True, add_prefix_space=spaced, **ends).backend_tokenizer
