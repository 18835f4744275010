"""Scoring a model directory (host, graft, or LoRA on either) by the probabilities of the letters at the answer slot."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from benchmark.prompts import LETTERS
from benchmark.scorer import Ask, Score, View
from mgll.files import sha256
from mllm_adapters import answer_slot
from mllm_adapters.loading import FINETUNE, load, read_finetune

#: Files that decide what a model answers; cards and training logs do not.
_DECIDING = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt")


class TransformersScorer:
    """A `Scorer` over whatever `mllm_adapters.load` reads.

    The four log-probabilities are a log-softmax over the whole vocabulary at the last position of the prompt, taken at the four
    letter tokens and renormalised over them. `Score.text` is the most probable token there, decoded.
    """

    views: tuple[View, ...] = ("letter",)

    def __init__(self, directory: str | os.PathLike[str], device: str = "cpu", name: str | None = None) -> None:
        loaded = load(directory, device=device)
        self.name = name or Path(directory).resolve().name
        self.fingerprint = directory_fingerprint(directory)
        self._host, self._processor = loaded.host, loaded.processor
        self._model = loaded.model.eval()
        self.device = torch.device(device)
        self._letters: tuple[int, ...] | None = None

    @torch.inference_mode()
    def score(self, asks: Sequence[Ask], views: Sequence[View]) -> list[list[Score]]:
        """See `Scorer`."""
        images = [ask.image for ask in asks for _ in ask.orders]
        found = iter(self._scores(images, [text for ask in asks for text in ask.texts]))
        return [[next(found) for _ in ask.orders] for ask in asks]

    def _scores(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[Score]:
        prompts = [self._host.prompt(question) for question in questions]
        logits = self._last_logits(list(images), prompts)
        letters = self._letter_ids(prompts[0])
        log_probs = logits.log_softmax(-1)[:, letters].log_softmax(-1)
        texts = self._processor.tokenizer.batch_decode(logits.argmax(-1, keepdim=True))
        return [
            Score((row[0], row[1], row[2], row[3]), text.strip(), prompt)
            for row, text, prompt in zip(log_probs.tolist(), texts, prompts, strict=True)
        ]

    def _last_logits(self, images: list[Image.Image], prompts: list[str]) -> torch.Tensor:
        """Float32 logits [batch, vocabulary] of the token after each prompt."""
        inputs = self._processor(images=images, text=prompts, padding=True, padding_side="left", return_tensors="pt")
        inputs = inputs.to(self.device)
        if inputs["pixel_values"].is_floating_point():
            inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        start = answer_slot.decoder_start(self._model.config)
        if start is not None:
            inputs["decoder_input_ids"] = torch.full((len(prompts), 1), start, device=self.device)
        options = answer_slot.forward_options(self._model, self._host, inputs["attention_mask"], keep=1)
        logits: torch.Tensor = self._model(**inputs, **options).logits
        return logits[:, -1].float()

    def _letter_ids(self, prompt: str) -> list[int]:
        if self._letters is None:
            answers = [self._host.answer(letter) for letter in LETTERS]
            self._letters = tuple(answer_slot.letter_ids(self._processor.tokenizer, prompt, answers))
        return list(self._letters)


def directory_fingerprint(directory: str | os.PathLike[str]) -> str:
    """SHA-256 over a model directory's weights, configuration and tokenizer; of a fine-tuned one also over its base's.

    What only records how the directory was made (versions, paths) does not count: the same model made again has the same hash.
    """
    directory, digest = Path(directory), hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.suffix in _DECIDING:
            digest.update(f"{path.name} {_deciding_content(path)}\n".encode())
    if (directory / FINETUNE).is_file():
        digest.update(directory_fingerprint(directory / read_finetune(directory).base).encode())
    return digest.hexdigest()


def _deciding_content(path: Path) -> str:
    content = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else None
    if not isinstance(content, dict):
        return sha256(path)
    if "provenance" in content:  # one of our own records, graft.json among them
        content = {"tower": content.get("tower")}
    names = ("_name_or_path", "base_model_name_or_path")
    return json.dumps({key: value for key, value in content.items() if key not in names}, sort_keys=True)
