"""From questions to what the model is fed: text ids that end in the answer, and images that the frozen tower sees only once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from mgll.preprocessing import open_image
from mllm_adapters.answer_slot import letter_ids
from mllm_adapters.host import Host
from mllm_adapters.loading import LoadedHost
from mllm_adapters.settings import TrainingQuestion

LETTERS = "ABCD"


class Texts:
    """Prompts with their answers as token ids, each question tokenised once.

    Sequences are padded on the left, so the answer is the end of every row: one letter token, then the end of sequence where the
    host has it so. The letter's id is the one that scoring will read (`answer_slot.letter_ids`).
    """

    def __init__(self, loaded: LoadedHost) -> None:
        self._host, self._processor = loaded.host, loaded.processor
        self._rows: dict[tuple[str, str], dict[str, list[int]]] = {}
        eos = self._processor.tokenizer.eos_token_id
        self._ending = [eos] if self._host.ends_with_eos else []
        self.answer_length = 1 + len(self._ending)

    def batch(self, questions: Sequence[TrainingQuestion]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and what else the host's processor makes of a text, each [B, length]."""
        self._tokenise([q for q in dict.fromkeys(questions) if (q.question, q.letter) not in self._rows])
        rows = [self._rows[q.question, q.letter] for q in questions]
        length = max(len(row["input_ids"]) for row in rows)
        padding = dict.fromkeys(rows[0], 0) | {"input_ids": self._processor.tokenizer.pad_token_id or 0}
        return {
            key: torch.tensor([[pad] * (length - len(row[key])) + row[key] for row in rows])
            for key, pad in padding.items()
        }

    def letters(self, question: str) -> tuple[int, ...]:
        """Token ids of A to D after this question."""
        answers = [self._host.answer(letter) for letter in LETTERS]
        return letter_ids(self._processor.tokenizer, self._host.prompt(question), answers)

    def _tokenise(self, questions: list[TrainingQuestion]) -> None:
        if not questions:
            return
        blank = Image.new("RGB", (32, 32))  # only its placeholders matter; every image of these hosts has equally many
        prompts = [self._host.prompt(q.question) for q in questions]
        encoded = self._processor(images=[blank] * len(prompts), text=prompts)
        for i, question in enumerate(questions):
            row = {key: list(map(int, encoded[key][i])) for key in encoded if key != "pixel_values"}
            answer = [self.letters(question.question)[LETTERS.index(question.letter)], *self._ending]
            for key, values in row.items():
                values += {"input_ids": answer, "attention_mask": [1] * len(answer)}.get(key, [0] * len(answer))
            self._rows[question.question, question.letter] = row


class Images:
    """The model's `pixel_values` by image path; with room for it, what the frozen tower makes of them instead.

    In that case the tower in the model is replaced until `close`, and every image goes through the real one once, alone, so that
    its features do not depend on which others were near it.
    """

    def __init__(self, loaded: LoadedHost, paths: Sequence[Path], cache_bytes: float) -> None:
        self._host, self._model, self._processor = loaded.host, loaded.model, loaded.processor
        self._tower = self._model.get_submodule(self._host.tower)
        self._parameter = next(self._tower.parameters())
        self._cache: dict[Path, Tensor] = {}
        distinct = len(set(paths))
        pixels = self._pixels(paths[0])
        self.features = self._encode(pixels).nbytes * distinct <= cache_bytes
        self._keeps = self.features or pixels.nbytes * distinct <= cache_bytes
        if self.features:
            self._model.set_submodule(self._host.tower, _Replay(self._host, self._model.config))

    def batch(self, paths: Sequence[Path]) -> Tensor:
        """[B, ...] on the model's device."""
        return torch.stack([self._of(path) for path in paths]).to(self._parameter.device)

    def close(self) -> None:
        """Give the model its tower back."""
        self._model.set_submodule(self._host.tower, self._tower)

    def _of(self, path: Path) -> Tensor:
        if path in self._cache:
            return self._cache[path]
        pixels = self._pixels(path)
        content = self._encode(pixels) if self.features else pixels
        if self._keeps:
            self._cache[path] = content
        return content

    def _pixels(self, path: Path) -> Tensor:
        encoded: Any = self._processor.image_processor(images=open_image(path), return_tensors="pt")
        return encoded["pixel_values"][0].to(self._parameter.dtype)

    @torch.no_grad()
    def _encode(self, pixels: Tensor) -> Tensor:
        features = self._host.encode(self._tower, self._model.config, pixels[None].to(self._parameter.device))
        return features[0].cpu()


class _Replay(nn.Module):
    """Stands where the frozen tower stood and hands on features that it made earlier."""

    def __init__(self, host: Host, config: Any) -> None:
        super().__init__()
        self.host, self.config = host, config

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        return self.host.replay(self.config, pixel_values)
