"""Scoring a model directory (host, graft, or LoRA on either): letters, replies, and the options' own texts."""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import chain
from pathlib import Path
from threading import Lock, current_thread, local, main_thread
from typing import NamedTuple

import torch

from benchmark.scorers.scorer import REPLY_TOKENS, VIEWS, Ask, Four, Options, Score, View
from mgll.kept_hashes import kept_sha256
from mgll.vocabulary.questions import LETTERS
from mllm_adapters.contract.finetune_record import FINETUNE, read_finetune
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.prompts import EncodedPrompts
from mllm_adapters.loading.load import load
from mllm_adapters.prompting.answer_slot import continuation_ids, letter_ids
from mllm_adapters.prompting.attention_choice import seconds_by_attention
from mllm_adapters.prompting.encoding import encode_prompts
from mllm_adapters.prompting.rows import replies
from mllm_adapters.prompting.scoring import log_probs
from mllm_adapters.prompting.token_rows import token_rows
from mllm_adapters.prompting.tree import Attention
from mllm_adapters.settings import DeviceMap, Dtype, Quantisation

#: Files that decide what a model answers; cards and training logs do not.
_DECIDING = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt")


class Prepared(NamedTuple):
    """Questions about one image as the model takes them.

    Attributes:
        encoded: all their prompts, those of a question one after the other.
        orders: the orders of each question's options.
    """

    encoded: EncodedPrompts
    orders: tuple[tuple[Options, ...], ...]


class TransformersScorer:
    """A `PreparingScorer` over whatever `mllm_adapters.load` reads.

    Letter view: a log-softmax over the whole vocabulary at the last position of the prompt, taken at the four letter tokens and
    renormalised over them; without text view `Score.text` is the most probable token there. Option view: the mean log-likelihood a
    token of the option's text in that place. All orders of a question share one forward pass (`mllm_adapters.prompting.tree`),
    unless the host allows no shared start (`Host.whole_prompts`). Text view: the greedy reply, at most `REPLY_TOKENS` long.
    """

    views: tuple[View, ...] = VIEWS
    attention: Attention = "limbs"

    def __init__(
        self,
        directory: str | os.PathLike[str],
        device: str = "cpu",
        name: str | None = None,
        dtype: Dtype = "auto",
        quantize: Quantisation = "no",
        device_map: DeviceMap = None,
    ) -> None:
        self._loaded = load(directory, device, dtype, quantize=quantize, device_map=device_map)
        self.name = name or Path(directory).resolve().name
        self.fingerprint = directory_fingerprint(directory)
        self.device = torch.device(device)
        self.dtype = self._loaded.dtype if quantize == "no" else f"{quantize}, {self._loaded.dtype}"
        self.note = self._loaded.note
        self.host = self._loaded.host.name  # tells the report which published figures belong beside
        self._letters: tuple[int, ...] | None = None
        self._options: dict[tuple[str, str], list[int]] = {}
        self._of_thread, self._copying = local(), Lock()

    def score(self, asks: Sequence[Ask], views: Sequence[View]) -> list[list[Score]]:
        """Score questions as one batch (`Scorer.score`); those with the same image object share the work on it."""
        groups: dict[int, list[int]] = {}
        for number, ask in enumerate(asks):
            groups.setdefault(id(ask.image), []).append(number)
        prepared = [self.prepare([asks[number] for number in group]) for group in groups.values()]
        found = self.score_prepared(prepared, views)
        asked = [number for group in groups.values() for number in group]
        return [scores for _, scores in sorted(zip(asked, found, strict=True), key=lambda pair: pair[0])]

    def prepare(self, asks: Sequence[Ask]) -> Prepared:
        """Decode, resize and tokenise what is asked about one image (`PreparingScorer.prepare`)."""
        loaded = self._mine()
        prompts = [loaded.host.prompt(text) for ask in asks for text in ask.texts]
        return Prepared(encode_prompts(loaded, asks[0].image, prompts), tuple(ask.orders for ask in asks))

    @torch.inference_mode()
    def score_prepared(self, prepared: Sequence[Prepared], views: Sequence[View]) -> list[list[Score]]:
        """Score prepared questions as one batch (`PreparingScorer.score_prepared`)."""
        loaded, encoded = self._loaded, [case.encoded for case in prepared]
        continuations = [
            [
                self._continuations(prompt, order if "option" in views else ())
                for prompt, order in zip(case.encoded.prompts, chain(*case.orders), strict=True)
            ]
            for case in prepared
        ]
        found = log_probs(loaded, encoded, continuations, self.attention)
        said: Sequence[Sequence[str | None]] = (
            replies(loaded, encoded, REPLY_TOKENS) if "text" in views else [[None] * len(case.ids) for case in encoded]
        )
        scores = iter(
            self._score(prompt, tensors, text, views)
            for case, of_prompts, replied in zip(encoded, found, said, strict=True)
            for prompt, tensors, text in zip(case.prompts, of_prompts, replied, strict=True)
        )
        return [[next(scores) for _ in orders] for case in prepared for orders in case.orders]

    @torch.inference_mode()
    def faster_attention(self, prepared: Iterable[Prepared]) -> Attention | None:
        """The faster attention, said on standard error (`PreparingScorer.faster_attention`); no choice on a CPU."""
        if self.device.type == "cpu" or self._loaded.host.whole_prompts:
            return None
        seconds = seconds_by_attention(self._loaded, [case.encoded for case in prepared])
        (faster, least), (slower, most) = sorted(seconds.items(), key=lambda way: way[1])
        print(f"attention over {faster}: {least:.3g} s the first batch, over {slower} {most:.3g} s", file=sys.stderr)
        return faster

    def _mine(self) -> LoadedHost:
        """The model with a processor that no other thread uses: tokenizers hold settings of the call they are in."""
        if current_thread() is main_thread():
            return self._loaded
        if not hasattr(self._of_thread, "loaded"):
            with self._copying:
                self._of_thread.loaded = replace(self._loaded, processor=deepcopy(self._loaded.processor))
        loaded: LoadedHost = self._of_thread.loaded
        return loaded

    def _continuations(self, prompt: str, options: Sequence[str]) -> list[list[int]]:
        """Token ids of the options' texts behind a prompt; those of a text do not depend on what stands far before it."""
        ending = prompt[-20:]
        if new := [option for option in options if (ending, option) not in self._options]:
            answers = [self._loaded.host.answer(option) for option in new]
            ids = continuation_ids(self._loaded.processor.tokenizer, prompt, answers)
            self._check_rows(ids)
            self._options |= {(ending, option): found for option, found in zip(new, ids, strict=True)}
        return [self._options[ending, option] for option in options]

    def _score(self, prompt: str, tensors: Sequence[torch.Tensor], said: str | None, views: Sequence[View]) -> Score:
        slot, *options = tensors
        found = slot[list(self._letter_ids(prompt))]  # float32, whatever the model computes in
        letters = found.log_softmax(-1)
        top = self._loaded.processor.tokenizer.decode(slot.argmax()).strip()
        return Score(
            _four(letters) if "letter" in views else None,
            top if said is None else said,
            prompt,
            _four(torch.stack([tokens.mean() for tokens in options])) if options else None,
            min(1.0, float(found.cpu().double().exp().sum())) if "letter" in views else None,
        )

    def _letter_ids(self, prompt: str) -> tuple[int, ...]:
        if self._letters is None:
            answers = [self._loaded.host.answer(letter) for letter in LETTERS]
            self._letters = letter_ids(self._loaded.processor.tokenizer, prompt, answers)
            self._check_rows([self._letters])
        return self._letters

    def _check_rows(self, answers: Sequence[Sequence[int]]) -> None:
        token_rows(self._loaded).check({"input_ids": [*chain(*answers)]})


def _four(values: torch.Tensor) -> Four:
    a, b, c, d = values.tolist()
    return a, b, c, d


def directory_fingerprint(directory: str | os.PathLike[str]) -> str:
    """SHA-256 over a model directory's weights, configuration and tokenizer; of a fine-tuned one also over its base's.

    What only records how the directory was made (versions, paths) does not count: the same model made again has the same hash.
    """
    directory, digest = Path(directory), hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.suffix in _DECIDING and not path.name.startswith("."):  # hidden: hashes that are kept
            digest.update(f"{path.name} {_deciding_content(path)}\n".encode())
    if (directory / FINETUNE).is_file():
        digest.update(directory_fingerprint(directory / read_finetune(directory).base).encode())
    return digest.hexdigest()


def _deciding_content(path: Path) -> str:
    content = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else None
    if not isinstance(content, dict):
        return kept_sha256(path)
    if "provenance" in content:  # one of our own records, graft.json among them
        content = {"tower": content.get("tower")}
    names = ("_name_or_path", "base_model_name_or_path")
    return json.dumps({key: value for key, value in content.items() if key not in names}, sort_keys=True)
