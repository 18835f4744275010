"""A tiny InstructBLIP of real classes, random weights, around a Llama or a T5."""

from pathlib import Path

import torch
from tiny_tokenizer import byte_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BlipImageProcessor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    PreTrainedTokenizerFast,
)

SIZE, PATCH, QUERIES = 32, 8, 3
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
T5 = {
    "model_type": "t5",
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 2,
    "feed_forward_proj": "gated-gelu",
}


def save_instructblip(directory: Path, t5: bool = False) -> None:
    """Tower 16 wide with a 4 x 4 grid, a Q-Former of 3 queries, 24 wide; language model 32 wide."""
    tokenizer = byte_tokenizer(place="<image>")  # by the name `image_token` the processor would not take it
    if t5:  # closes every text, as T5's does
        end = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", tokenizer.eos_token_id)])
        tokenizer.backend_tokenizer.post_processor = end
    text = (T5 if t5 else LLAMA) | {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }
    if t5:
        text["decoder_start_token_id"] = tokenizer.pad_token_id
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    qformer = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    config = InstructBlipConfig(
        vision_config=vision | {"image_size": SIZE, "patch_size": PATCH, "initializer_range": 0.02},
        qformer_config=qformer | {"vocab_size": 270, "max_position_embeddings": 512},
        text_config=text,
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    model = InstructBlipForConditionalGeneration(config)
    with torch.no_grad():  # queries and biases start at 0, norms at 1; make every tensor telling
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory, max_shard_size="60KB")
    size = {"height": SIZE, "width": SIZE}
    InstructBlipProcessor(BlipImageProcessor(size=size), tokenizer, bert_like(), QUERIES).save_pretrained(directory)


def bert_like() -> PreTrainedTokenizerFast:
    """Another tokenizer with other ids, which opens and closes every text as BERT's does."""
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    words |= {
        letter: len(words) + i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ?:.")
    }
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
