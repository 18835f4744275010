"""Teach a language model to read four-option questions: the finding in words, or as a mixture of words, in the image's place.

A small language model does not bind a letter to its option, and 100 steps on images do not teach it that (docs/laboratory.md). In
words it learns that in minutes. Of real diseases it learns nothing: findings and options are drawn at random.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mgll.training.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from mgll.training.precision import attention_for
from mgll.training.steps import learning_rate_factor
from mgll.vocabulary.questions import LETTERS, QUESTIONS
from mllm_adapters.contract.host import Host
from mllm_adapters.demo.decoder_training import bags_of_words, noisy_mixtures
from mllm_adapters.demo.reading import Question, draw_question, ids_in_words, image_word, in_words, text_of
from mllm_adapters.demo.settings import ReadingTraining
from mllm_adapters.prompting.answer_slot import letter_ids

#: Lengths are filled up to a multiple of this: a CPU prepares its products anew for each length.
_MULTIPLE = 16


class _Batch(NamedTuple):
    """One training batch, padded on the left.

    Embeddings [B, L, width], their mask [B, L], the place of each right option [B], and whether the findings are mixtures.
    """

    embeddings: Tensor
    mask: Tensor
    answers: Tensor
    spread: bool


def teach_reading(
    model: Any,
    tokenizer: Any,
    host: Host,
    settings: ReadingTraining,
    report: Callable[[dict[str, float]], None] | None = None,
    checkpoints: Path | None = None,
) -> None:
    """Train, in place, what of a model requires gradients; the same settings and thread count give the same weights.

    Args:
        model: a causal language model or a host, whose word embeddings stay as they are.
        tokenizer: its tokenizer.
        host: the family, in whose conversation form questions are asked.
        settings: settings of the run.
        report: called after every step with `step`, `loss`, `accuracy` and `spread` (1 or 0) of its batch.
        checkpoints: folder of checkpoints, from the newest of which the run goes on; None keeps none.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0, fused=True)
    newest = newest_checkpoint(checkpoints) if checkpoints else None
    done = int(load_checkpoint(newest, model, optimizer)["step"]) if newest else 0
    table = model.get_input_embeddings().weight.detach()
    letters = torch.tensor(_letters(tokenizer, host), device=table.device)
    # the end is learnt with the letter, as fine-tuning does: unlearnt, it would be most of the loss there
    ends = [tokenizer.eos_token_id] if host.ends_with_eos else []
    half = settings.mixed_precision != "no"
    batches = islice(_batches(tokenizer, host, table, settings), done, None)
    model.train()
    for step, batch in zip(range(done + 1, settings.steps + 1), batches, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(step - 1, settings.steps, settings.warmup)
        with attention_for(table.device, half, batch.mask.shape[1]):
            answers = letters[batch.answers]
            logits = _logits(model, _with_answers(batch, table[answers]) if ends else batch, half, 1 + len(ends))
            targets = torch.stack([answers, *(torch.full_like(answers, end) for end in ends)], 1)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if report:
            right = (logits[:, 0].argmax(-1) == answers).float().mean()
            values = {"loss": float(loss.detach()), "accuracy": float(right)}
            report({"step": step, "spread": float(batch.spread), **values})
        if checkpoints and step % settings.checkpoint_every == 0 and step < settings.steps:
            save_checkpoint(checkpoints, step, model, optimizer, {}, keep=1)
    model.eval()


@torch.inference_mode()
def reads_mixtures(model: Any, tokenizer: Any, host: Host, settings: ReadingTraining, batches: int = 6) -> float:
    """Share of questions right whose finding is a mixture of words in the image's place, as `settings` draw them at the end.

    Chance is 0.25. The questions are none of the training's.
    """
    table = model.get_input_embeddings().weight
    letters = list(_letters(tokenizer, host))
    drawn = replace(settings, spread=1.0, words_first=0.0, doubt_rises=0.0, seed=settings.seed + 1)
    right = 0
    for batch in islice(_batches(tokenizer, host, table, drawn), batches):
        chosen = _logits(model, batch, settings.mixed_precision != "no", 1)[:, 0, letters].argmax(-1)
        right += int((chosen == batch.answers).sum())
    return right / batches / settings.batch_size


def _letters(tokenizer: Any, host: Host) -> tuple[int, ...]:
    """Token ids of the four letters where the family answers."""
    return letter_ids(tokenizer, host.prompt(QUESTIONS[0]), [host.answer(letter) for letter in LETTERS])


def _with_answers(batch: _Batch, letters: Tensor) -> _Batch:
    """The batch with the embedding of its right letter [B, width] after each question."""
    embeddings = torch.cat([batch.embeddings, letters[:, None]], 1)
    return batch._replace(embeddings=embeddings, mask=nn.functional.pad(batch.mask, (0, 1), value=1))


def _logits(model: Any, batch: _Batch, half: bool, kept: int) -> Tensor:
    """Logits of the tokens after the last `kept` positions [B, kept, vocabulary], in float32."""
    with torch.autocast(batch.mask.device.type, torch.bfloat16, enabled=half):
        found: Tensor = model(
            inputs_embeds=batch.embeddings,
            attention_mask=batch.mask,
            position_ids=(batch.mask.cumsum(-1) - 1).clamp_min(0),
            logits_to_keep=torch.arange(-kept, 0),
            use_cache=False,
        ).logits[:, -kept:]
    return found.float()


def _batches(tokenizer: Any, host: Host, table: Tensor, settings: ReadingTraining) -> Iterator[_Batch]:
    """Batches without end, each a function of the seed and of its place alone."""
    rng, generator = np.random.default_rng([settings.seed, 3]), torch.Generator().manual_seed(settings.seed)
    embedded = bags_of_words(tokenizer) @ table.float().cpu()
    common = embedded.mean(0) * float(settings.centred)
    step = 0
    while True:
        step += 1
        mixed = step - settings.words_first * settings.steps
        spread = bool(rng.random() < settings.spread) and mixed > 0
        share = min(1.0, max(0.0, mixed) / max(1.0, settings.doubt_rises * settings.steps))
        questions = [draw_question(rng, spread, share * settings.doubt) for _ in range(settings.batch_size)]
        if spread:
            weights = torch.tensor(np.stack([question.weights for question in questions]), dtype=torch.float32)
            count = int(rng.integers(1, settings.most_positions + 1))
            seen = common + noisy_mixtures(weights, embedded - common, count, share * settings.noise, generator)
            rows = [_shown(tokenizer, host, table, *shown) for shown in zip(questions, seen.to(table), strict=True)]
        else:
            rows = [table[torch.tensor(ids_in_words(tokenizer, host, q, in_words(q, rng)))] for q in questions]
        longest = max(map(len, rows))
        longest += -longest % _MULTIPLE
        yield _Batch(
            torch.stack([nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows]),
            torch.stack([torch.arange(longest) >= longest - len(row) for row in rows]).long().to(table.device),
            torch.tensor([question.answer for question in questions], device=table.device),
            spread,
        )


def _shown(tokenizer: Any, host: Host, table: Tensor, question: Question, finding: Tensor) -> Tensor:
    """Embeddings of a question with vectors in the image's place; without a marker of the image, that is in front of all text."""
    ids = tokenizer(host.prompt(text_of(question)))["input_ids"]
    word = image_word(host)
    place = ids.index(tokenizer.convert_tokens_to_ids(word)) if word else 0
    text = table[torch.tensor(ids)]
    return torch.cat([text[:place], finding, text[place + bool(word) :]])
