"""The demo's language model: a LLaMA of 0.8 M parameters that has learnt to read four-option questions from text alone.

A toy decoder that has to learn reading and seeing at once learns neither. So it is warmed without an image: the finding stands in
words where the image tokens will sit, and the answer is the option that names it. Half of the later batches spread the finding over
as many positions as a tower has patches, as noisy mixtures of the names' word embeddings: what a connector can learn to put there.
Nothing about photographs is learnt here; `recipes/warm_decoder.py` makes the weights that ship with the package.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from itertools import count as counting
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load, save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmark.prompts import INSTRUCTION, LETTERS, QUESTIONS, question_text
from mgll.files import atomic_path
from mgll.vocabulary import diseases
from mllm_adapters.answer_slot import letter_ids
from mllm_adapters.demo_settings import WarmSettings
from mllm_adapters.llava import HOST

IMAGE = "<image>"
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", IMAGE)
WORDS = r"\n|\w+|[^\w\s]"
SHIPPED = "demo_decoder/decoder.safetensors"


class Question(NamedTuple):
    """A question whose finding is given: `weights` [diseases] says how strongly each is present, the answer most of the options."""

    wording: str
    options: tuple[int, ...]
    answer: int
    weights: np.ndarray


def names() -> tuple[str, ...]:
    """Every disease name of the table, in its order."""
    return tuple(disease.name for disease in diseases().values())


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, mark or line break: those of the prompt, the questions and all disease names, in order of appearance."""
    texts = [HOST.prompt(question_text(wording, LETTERS)) for wording in QUESTIONS] + [INSTRUCTION, ", and", *names()]
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
    """A LLaMA of this width: heads of 32, feed-forward layers 8/3 as wide."""
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
    """The warmed decoder of the package, in float32."""
    stored = load(files("mllm_adapters").joinpath(SHIPPED).read_bytes())
    tensors = {name: tensor.float() for name, tensor in stored.items()}
    width = tensors["model.norm.weight"].shape[0]
    depth = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("model.layers."))
    model = LlamaForCausalLM(decoder_config(build_tokenizer(), width, depth))
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def shipped_sha256() -> str:
    """Hash of the shipped decoder's file."""
    return hashlib.sha256(files("mllm_adapters").joinpath(SHIPPED).read_bytes()).hexdigest()


def save_decoder(model: LlamaForCausalLM, path: Path) -> None:
    """Write the weights as float16."""
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def draw_question(rng: np.random.Generator, spread: bool) -> Question:
    """A question over all disease names.

    In words, one to three findings are equally present and one of them is an option. Spread, every finding is present to a degree,
    as in what a tower that is not sure gives, and the strongest option is the answer.
    """
    order = rng.permutation(len(names()))
    options, answer = tuple(int(index) for index in order[:4]), int(rng.integers(4))
    weights = np.zeros(len(names()))
    others = order[4 : 4 + int(rng.integers(0, 3))]
    weights[options[answer]] = 1.0
    if spread:
        background = rng.uniform(0, 0.8)
        weights[:] = rng.uniform(0.5, 1, len(weights)) * background
        weights[others] = rng.uniform(background, 1.5, len(others))
        weights[options[answer]] = 1.0
    else:
        weights[others] = 1.0
    return Question(str(rng.choice(QUESTIONS)), options, answer, weights)


def prompt_of(question: Question, finding: str = IMAGE) -> str:
    """The prompt as the demo's LLaVA is asked, with `finding` in the place of its image marker."""
    text = question_text(question.wording, [names()[option] for option in question.options])
    return HOST.prompt(text).replace(IMAGE, finding)


def in_words(question: Question, rng: np.random.Generator) -> str:
    """The findings of a question as a list of names in random order."""
    return ", ".join(names()[index] for index in rng.permutation(np.flatnonzero(question.weights)))


def text_questions(count: int, seed: int) -> list[tuple[str, str]]:
    """Prompts with one finding in words at the image slot, and their letters; every disease is the answer about equally often."""
    rng = np.random.default_rng([seed, 2])
    questions = []
    for number in range(count):
        answer = number % len(names())
        others = rng.choice(np.delete(np.arange(len(names())), answer), 3, replace=False)
        position = int(rng.integers(4))
        options = tuple(int(index) for index in np.insert(others, position, answer))
        question = Question(str(rng.choice(QUESTIONS)), options, position, np.eye(len(names()))[answer])
        questions.append((prompt_of(question, names()[answer]), LETTERS[position]))
    return questions


@torch.inference_mode()
def text_only_accuracy(model: nn.Module, tokenizer: Any, count: int = 448, seed: int = 0) -> float:
    """Share of text-only questions answered right by the most probable letter, over all disease names (chance 0.25).

    Args:
        model: a causal language model, or a LLaVA, which is then asked without an image.
        tokenizer: its tokenizer, or a processor that has one.
        count: number of questions.
        seed: of the questions; none of them is a training question except by accident.
    """
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    questions = text_questions(count, seed)
    letters = list(letter_ids(tokenizer, questions[0][0], [HOST.answer(letter) for letter in LETTERS]))
    device, right = next(model.parameters()).device, 0
    for start in range(0, count, 64):
        prompts, answers = zip(*questions[start : start + 64], strict=True)
        inputs = tokenizer(list(prompts), padding=True, padding_side="left", return_tensors="pt").to(device)
        mask = inputs["attention_mask"]
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        logits = model(input_ids=inputs["input_ids"], attention_mask=mask, position_ids=positions).logits[:, -1]
        chosen = logits[:, letters].argmax(-1).tolist()
        right += sum(LETTERS[index] == answer for index, answer in zip(chosen, answers, strict=True))
    return right / count


class _Batch(NamedTuple):
    """Token ids [B, L] and mask, right-padded, each row ending in its letter; `weights` [B, diseases]; index of the answer [B]."""

    ids: Tensor
    mask: Tensor
    weights: Tensor
    answer: Tensor
    spread: bool


def _batches(settings: WarmSettings, tokenizer: PreTrainedTokenizerFast) -> Iterator[_Batch]:
    rng = np.random.default_rng([settings.seed, 1])
    for step in counting():
        spread = step >= settings.steps * settings.words_first and bool(rng.random() < settings.spread)
        questions = [draw_question(rng, spread) for _ in range(settings.batch_size)]
        positions = 1 if rng.random() < settings.single else int(rng.integers(2, settings.most_positions + 1))
        slot = IMAGE * positions
        texts = [
            prompt_of(question, slot if spread else in_words(question, rng)) + HOST.answer(LETTERS[question.answer])
            for question in questions
        ]
        inputs = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
        weights = torch.tensor(np.stack([question.weights for question in questions]), dtype=torch.float32)
        answer = torch.tensor([question.answer for question in questions])
        yield _Batch(inputs["input_ids"], inputs["attention_mask"], weights, answer, spread)


class _Warming(nn.Module):
    """The decoder with what only its training needs: auxiliary heads, and the names as bags of words [diseases, vocabulary]."""

    bags: Tensor

    def __init__(self, decoder: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, settings: WarmSettings) -> None:
        super().__init__()
        self.decoder, self.settings = decoder, settings
        self.found, self.true_option = nn.Linear(settings.width, 1), nn.Linear(settings.width, 1)
        self.letter = nn.Linear(settings.width, len(LETTERS))
        self.image, self.line = (tokenizer.get_vocab()[token] for token in (IMAGE, "\n"))
        self.end = tokenizer.get_vocab()[str(tokenizer.eos_token)]
        # the system text is the same in every question: it runs once a step, and only its keys and values are repeated
        self.prefix = len(tokenizer(HOST.prompt("").partition(IMAGE)[0])["input_ids"])
        bags = torch.zeros(len(names()), len(tokenizer))
        for row, name in enumerate(names()):
            for token in tokenizer(name, add_special_tokens=False)["input_ids"]:
                bags[row, token] += 1
        self.register_buffer("bags", bags / bags.sum(-1, keepdim=True).sqrt())
        self.generator = torch.Generator().manual_seed(settings.seed)

    def embed(self, ids: Tensor, batch: _Batch) -> Tensor:
        """Token embeddings [B, L, width], with mixtures of names at the image positions."""
        embeddings = self.decoder.model.embed_tokens(ids)
        if not batch.spread:
            return embeddings
        slots = ids == self.image
        shape = (len(slots), int(slots[0].sum()), self.bags.shape[0])
        shares = batch.weights[:, None] * (0.5 + torch.rand(shape, generator=self.generator))
        mixture = shares @ (self.bags @ self.decoder.model.embed_tokens.weight)
        level = torch.rand((len(slots), 1, 1), generator=self.generator) * self.settings.noise
        noise = torch.randn(mixture.shape, generator=self.generator) * mixture.detach().std() * level
        scale = torch.exp(torch.empty(len(slots), 1, 1).uniform_(-0.7, 0.7, generator=self.generator))
        return embeddings.masked_scatter(slots[..., None], scale * (mixture + noise))

    def forward(self, batch: _Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of letter and end of sequence, auxiliary loss, and share of right letters."""
        ids = batch.ids[:, self.prefix :]
        rows = torch.arange(len(ids))
        system = self.decoder.model(batch.ids[:1, : self.prefix], use_cache=True).past_key_values
        system.batch_repeat_interleave(len(ids))
        output = self.decoder.model(
            inputs_embeds=self.embed(ids, batch),
            attention_mask=batch.mask,
            past_key_values=system,
            output_hidden_states=True,
        )
        last = batch.mask.sum(-1) - self.prefix - 1
        at_answer = torch.stack([output.last_hidden_state[rows, last - 1], output.last_hidden_state[rows, last]], 1)
        logits = self.decoder.lm_head(at_answer)
        targets = torch.stack([ids[rows, last], torch.full_like(last, self.end)], 1)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        auxiliary = self._auxiliary_loss(ids, batch, output.hidden_states)
        return loss, auxiliary, (logits[:, 0].argmax(-1) == targets[:, 0]).float().mean()

    def _auxiliary_loss(self, ids: Tensor, batch: _Batch, states: tuple[Tensor, ...]) -> Tensor:
        """What has to be known on the way, each step said below the block that uses it.

        Two blocks below the last state: whether an option's word stands in the finding, and each option's letter at its last
        word. One block below: which option is the true one.
        """
        words, options = states[-3], states[-2]
        # six line breaks: after the image, the wording and each option
        lines = (ids == self.line).nonzero()[:, 1].view(len(ids), 6)
        where = torch.arange(ids.shape[1])
        in_options = (where > lines[:, 1:2]) & (where < lines[:, 5:]) & (self.bags.sum(0) > 0)[ids]
        found = (batch.weights @ (self.bags > 0).float()).clamp(max=1.0).gather(1, ids)
        loss = nn.functional.binary_cross_entropy_with_logits(self.found(words)[..., 0][in_options], found[in_options])
        ends = (lines[:, 2:] - 1)[..., None].expand(-1, -1, words.shape[-1])
        letters = torch.arange(len(LETTERS)).expand(len(ids), -1)
        loss = loss + nn.functional.cross_entropy(self.letter(words.gather(1, ends)).flatten(0, 1), letters.flatten())
        return loss + nn.functional.cross_entropy(self.true_option(options.gather(1, ends))[..., 0], batch.answer)


def _match_words(decoder: LlamaForCausalLM, gain: float) -> None:
    """Start the lower blocks with equal queries and keys, so that a word looks at the same word elsewhere from the first step."""
    for layer in decoder.model.layers[: len(decoder.model.layers) // 2]:
        attention = layer.self_attn
        with torch.no_grad():
            attention.q_proj.weight.mul_(gain)
            attention.k_proj.weight.copy_(attention.q_proj.weight)


def warm(settings: WarmSettings, report: Callable[[dict[str, float]], None] | None = None) -> LlamaForCausalLM:
    """Train a decoder from scratch; the same settings and thread count give the same weights.

    Args:
        settings: of the run.
        report: called after every step with `step`, `loss`, `auxiliary`, `accuracy` and `spread` (1 or 0) of its batch.
    """
    tokenizer = build_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        decoder = LlamaForCausalLM(decoder_config(tokenizer, settings.width, settings.depth))
        _match_words(decoder, settings.match)
        model = _Warming(decoder, tokenizer, settings).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / 50) * (0.55 + 0.45 * float(np.cos(np.pi * min(1.0, step / settings.steps)))),
    )
    for step, batch in zip(range(1, settings.steps + 1), _batches(settings, tokenizer), strict=False):
        loss, auxiliary, accuracy = model(batch)
        optimizer.zero_grad(set_to_none=True)
        (loss + settings.auxiliary * auxiliary).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if report:
            values = {"loss": loss, "auxiliary": auxiliary, "accuracy": accuracy}
            report({"step": step, "spread": float(batch.spread), **{k: float(v.detach()) for k, v in values.items()}})
    return decoder.eval()
