"""Tokenizers of the tiny hosts: each family's conversation form, in the words that the demo's decoder was warmed on.

The decoder has read questions in LLaVA's form only. So that all families can share it bit for bit, the tokenizer of each writes
what its family puts around a question as LLaVA's words, and calls the image's token by the family's name. Questions and answers
pass unchanged.
"""

import re

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from mllm_adapters.contract.host import Host
from mllm_adapters.demo.decoder import IMAGE, SPECIAL, WORDS, build_tokenizer
from mllm_adapters.hosts.llava.host import Llava

#: Stands for a question where a conversation form is taken apart; no prompt has it.
_QUESTION = "\x00"


def conversation_tokenizer(host: Host, image: str, around: str = "", **named: str) -> PreTrainedTokenizerFast:
    """The demo's tokenizer, for the prompts of a family.

    Args:
        host: the family.
        image: the family's name of the token that stands for image features; it has the id of LLaVA's.
        around: regex of what the family's processor writes around these tokens; it is left out of what the decoder reads.
        named: special tokens, the image's among them, by the name of the tokenizer's attribute; `place` is the image's where none
            is named. Those that the vocabulary does not know get ids behind it.
    """
    words = build_tokenizer().get_vocab()
    vocabulary = {image if word == IMAGE else word: index for word, index in words.items()}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    rules = [(re.escape(form), words) for form, words in _forms(host) if form]
    rules += [(around, "")] if around else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(Regex(form), words) for form, words in rules])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    pad, start, end, unknown, _ = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=start,
        eos_token=end,
        unk_token=unknown,
        extra_special_tokens=named or {"place": image},
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def _forms(host: Host) -> list[tuple[str, str]]:
    """What the family writes before, between and after image and question, each with LLaVA's words for it."""
    opening, between, closing = _parts(host)
    llava = _parts(Llava())
    if not opening:  # the image stands in front of all text (`mllm_adapters.demo.image_first`)
        return [(between, llava[1]), (closing, llava[2])]
    return list(zip((opening, between, closing), llava, strict=True))


def _parts(host: Host) -> tuple[str, str, str]:
    before, _, closing = host.prompt(_QUESTION).partition(_QUESTION)
    marker = next((mark for mark in re.findall(r"<[\w ]+>", host.marker)), "")
    opening, _, between = before.partition(marker) if marker else ("", "", before)
    return opening, between, closing
