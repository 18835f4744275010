"""A real tokenizer that needs no vocabulary file; shared by the tests of hosts."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def byte_tokenizer(**special_tokens: str) -> PreTrainedTokenizerFast:
    """Any text in bytes; only the answer letters with their space are whole tokens, as in a real vocabulary.

    Further special tokens are given by name: `image_token="<image>"` becomes the tokenizer's attribute of that name.
    """
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {f"Ġ{letter}": len(vocabulary) + i for i, letter in enumerate("ABCD")}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ġ", letter) for letter in "ABCD"]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=special_tokens or {"image_token": "<image>"},
    )
