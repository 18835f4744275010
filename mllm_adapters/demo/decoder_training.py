"""How the demo decoder is trained on text."""

from collections.abc import Callable, Iterator
from itertools import count as counting
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mgll.vocabulary.questions import LETTERS
from mllm_adapters.demo.decoder import IMAGE, build_tokenizer, decoder_config, names
from mllm_adapters.demo.reading import draw_question, in_words, prompt_of
from mllm_adapters.demo.settings import DecoderTraining
from mllm_adapters.hosts.llava.host import Llava


class _Batch(NamedTuple):
    """One training batch.

    Token ids [B, L] and mask are padded on the right, and each row ends in its letter. `weights` [B, diseases] say how strongly
    each disease is present, `answer` [B] which option is right, and `spread` whether the finding lies at image positions.
    """

    ids: Tensor
    mask: Tensor
    weights: Tensor
    answer: Tensor
    spread: bool


def _batches(settings: DecoderTraining, tokenizer: PreTrainedTokenizerFast) -> Iterator[_Batch]:
    rng = np.random.default_rng([settings.seed, 1])
    for step in counting():
        spread = step >= settings.steps * settings.words_first and bool(rng.random() < settings.spread)
        questions = [draw_question(rng, spread) for _ in range(settings.batch_size)]
        positions = 1 if rng.random() < settings.single else int(rng.integers(2, settings.most_positions + 1))
        slot = IMAGE * positions
        texts = [
            prompt_of(question, slot if spread else in_words(question, rng)) + Llava().answer(LETTERS[question.answer])
            for question in questions
        ]
        inputs = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
        weights = torch.tensor(np.stack([question.weights for question in questions]), dtype=torch.float32)
        answer = torch.tensor([question.answer for question in questions])
        yield _Batch(inputs["input_ids"], inputs["attention_mask"], weights, answer, spread)


class _Training(nn.Module):
    """The decoder with what only its training needs: auxiliary heads, and the names as bags of words [diseases, vocabulary]."""

    bags: Tensor

    def __init__(
        self, decoder: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, settings: DecoderTraining
    ) -> None:
        super().__init__()
        self.decoder, self.settings = decoder, settings
        self.found, self.true_option = nn.Linear(settings.width, 1), nn.Linear(settings.width, 1)
        self.letter = nn.Linear(settings.width, len(LETTERS))
        self.image, self.line = (tokenizer.get_vocab()[token] for token in (IMAGE, "\n"))
        self.end = tokenizer.get_vocab()[str(tokenizer.eos_token)]
        # the system text is the same in every question: it runs once a step, and only its keys and values are repeated
        self.prefix = len(tokenizer(Llava().prompt("").partition(IMAGE)[0])["input_ids"])
        self.register_buffer("bags", bags_of_words(tokenizer))
        self.generator = torch.Generator().manual_seed(settings.seed)

    def embed(self, ids: Tensor, batch: _Batch) -> Tensor:
        """Token embeddings [B, L, width], with mixtures of names at the image positions."""
        embeddings = self.decoder.model.embed_tokens(ids)
        if not batch.spread:
            return embeddings
        slots = ids == self.image
        names_in_words = self.bags @ self.decoder.model.embed_tokens.weight
        seen = noisy_mixtures(batch.weights, names_in_words, int(slots[0].sum()), self.settings.noise, self.generator)
        return embeddings.masked_scatter(slots[..., None], seen)

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
        """Loss of the intermediate results that lead to the answer, each read from the state just below the block that uses it.

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


def bags_of_words(tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """The disease names as bags of words: [diseases, vocabulary], each row of length 1."""
    bags = torch.zeros(len(names()), len(tokenizer))
    for row, name in enumerate(names()):
        for token in tokenizer(name, add_special_tokens=False)["input_ids"]:
            bags[row, token] += 1
    return bags / bags.sum(-1, keepdim=True).sqrt()


def noisy_mixtures(
    weights: Tensor, names_in_words: Tensor, positions: int, noise: float, generator: torch.Generator
) -> Tensor:
    """What a connector may put at image positions: [B, positions, width].

    Args:
        weights: how strongly each disease is present [B, diseases].
        names_in_words: embedding of each disease's name [diseases, width].
        positions: number of image positions.
        noise: largest standard deviation of the noise, in units of the mixtures' standard deviation.
        generator: of shares, noise and scale.
    """
    shares = weights[:, None] * (0.5 + torch.rand((len(weights), positions, weights.shape[1]), generator=generator))
    mixture = shares @ names_in_words
    level = torch.rand((len(weights), 1, 1), generator=generator) * noise
    added = torch.randn(mixture.shape, generator=generator) * mixture.detach().std() * level
    scale = torch.exp(torch.empty(len(weights), 1, 1).uniform_(-0.7, 0.7, generator=generator))
    return scale * (mixture + added)


def _match_words(decoder: LlamaForCausalLM, gain: float) -> None:
    """Start the lower blocks with equal queries and keys, so that a word attends to the same word elsewhere from the first step."""
    for layer in decoder.model.layers[: len(decoder.model.layers) // 2]:
        attention = layer.self_attn
        with torch.no_grad():
            attention.q_proj.weight.mul_(gain)
            attention.k_proj.weight.copy_(attention.q_proj.weight)


def train_decoder(
    settings: DecoderTraining, report: Callable[[dict[str, float]], None] | None = None
) -> LlamaForCausalLM:
    """Train a decoder from scratch; the same settings and thread count give the same weights.

    Args:
        settings: settings of the run.
        report: called after every step with `step`, `loss`, `auxiliary`, `accuracy` and `spread` (1 or 0) of its batch.
    """
    tokenizer = build_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        decoder = LlamaForCausalLM(decoder_config(tokenizer, settings.width, settings.depth))
        _match_words(decoder, settings.match)
        model = _Training(decoder, tokenizer, settings).train()
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
