"""Folders of tiny text models with random weights, each with a tokenizer of its kind."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Letters as tokens; the template puts special ones around."""
    letters = [chr(code) for code in range(32, 127)]
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *letters])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single=template, special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", cls_token="[CLS]", eos_token="[SEP]")


def _save(folder: Path, model: PreTrainedModel, template: str) -> str:
    model.save_pretrained(folder)
    tokenizer(template).save_pretrained(folder)
    return str(folder)


def bert(folder: Path, layers: int = 3) -> str:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=64
    )
    return _save(folder, BertModel(config), "[CLS] $A [SEP]")


def llama(folder: Path) -> str:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64
    )
    return _save(folder, LlamaForCausalLM(config), "[CLS] $A")


def clip(folder: Path) -> str:
    torch.manual_seed(2)
    small = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    text = {**small, "vocab_size": 99, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 16})
    return _save(folder, CLIPModel(config), "[CLS] $A [SEP]")
