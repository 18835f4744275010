"""The demo's language model: a LLaMA of 0.8 M parameters that has learnt to read four-option questions from text alone.

A toy decoder that has to learn reading and seeing at once learns neither. Therefore it is first trained without images: the finding
stands in words where the image tokens will be, and the answer is the option that names it. In a share of the later batches
(`mllm_adapters.demo.settings.DecoderTraining.spread`) the finding stands there as noisy mixtures of the names' word embeddings
instead, at one position or as many as a small tower has patches: what a connector can learn to put there.
Nothing about photographs is learnt here; `recipes/train_demo_decoder.py` makes the weights that ship with the package.
"""

import hashlib
import re
from importlib.resources import files
from pathlib import Path

from safetensors.torch import load, save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mgll.files import atomic_path
from mgll.vocabulary.diseases import diseases
from mgll.vocabulary.questions import INSTRUCTION, LETTERS, QUESTIONS, question_text
from mllm_adapters.hosts.llava.host import Llava

IMAGE = "<image>"
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", IMAGE)
WORDS = r"\n|\w+|[^\w\s]"
SHIPPED = "decoder.safetensors"


def names() -> tuple[str, ...]:
    """All disease names in the order of the table `mgll.vocabulary.diseases`."""
    return tuple(disease.name for disease in diseases().values())


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token for each word, punctuation mark and line break of the prompts and all disease names."""
    prompts = [Llava().prompt(question_text(wording, LETTERS)) for wording in QUESTIONS]
    texts = [*prompts, INSTRUCTION, ", and", *names()]
    words = dict.fromkeys(word for text in texts for word in re.findall(WORDS, text.replace(IMAGE, "")))
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=[IMAGE],
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def decoder_config(tokenizer: PreTrainedTokenizerFast, width: int = 128, depth: int = 4) -> LlamaConfig:
    """Configuration of a LLaMA: heads are 32 wide, feed-forward layers 8/3 of `width`."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=depth,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )


def shipped_decoder() -> LlamaForCausalLM:
    """Load the decoder, trained on text, that ships with the package: in float32 and evaluation mode."""
    stored = load(files("mllm_adapters.demo").joinpath(SHIPPED).read_bytes())
    tensors = {name: tensor.float() for name, tensor in stored.items()}
    width = tensors["model.norm.weight"].shape[0]
    depth = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("model.layers."))
    model = LlamaForCausalLM(decoder_config(build_tokenizer(), width, depth))
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def shipped_sha256() -> str:
    """Hex SHA-256 of the decoder file that ships with the package."""
    return hashlib.sha256(files("mllm_adapters.demo").joinpath(SHIPPED).read_bytes()).hexdigest()


def save_decoder(model: LlamaForCausalLM, path: Path) -> None:
    """Write a decoder's weights as a safetensors file in float16."""
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
