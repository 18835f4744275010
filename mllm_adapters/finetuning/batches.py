"""Model inputs made from questions: token ids that end in the answer, and images that the frozen tower sees only once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mgll.images.preprocessing import open_image
from mgll.vocabulary.questions import LETTERS
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.modules.grafted_tower import BridgedReplay, without_bridge
from mllm_adapters.prompting.answer_slot import decoder_start, letter_ids
from mllm_adapters.settings import TrainingQuestion


class Texts:
    """Prompts with their answers as token ids, each question tokenised once.

    Sequences are padded on the left, therefore every row ends in the answer: one letter token, then the end-of-sequence token
    where `Host.ends_with_eos` is set. The letter's id is the one that scoring will read
    (`mllm_adapters.prompting.answer_slot.letter_ids`). In an encoder-decoder model the answer stands in `decoder_input_ids`. The
    inputs of a second text encoder (`Host.second_text`) never hold the answer and are padded on the right, since such encoders
    count positions from the first token.
    """

    def __init__(self, loaded: LoadedHost) -> None:
        self._host, self._processor = loaded.host, loaded.processor
        self._rows: dict[tuple[str, str, tuple[int, int]], dict[str, list[int]]] = {}
        self._sizes: dict[Path, tuple[int, int]] = {}
        eos = self._processor.tokenizer.eos_token_id
        self._ending = [eos] if self._host.ends_with_eos else []
        self._start = decoder_start(loaded.model.config)
        self.answer_length = 1 + len(self._ending)

    def batch(self, questions: Sequence[TrainingQuestion]) -> dict[str, Tensor]:
        """Text inputs of a batch: `input_ids`, `attention_mask` and others that the host's processor makes, each [B, length]."""
        rows = [self._row(q) for q in questions]
        pads = dict.fromkeys(rows[0], 0) | {"input_ids": self._processor.tokenizer.pad_token_id or 0}
        lengths = {key: max(len(row[key]) for row in rows) for key in pads}
        return {key: torch.tensor([self._pad(key, row[key], lengths[key], pads[key]) for row in rows]) for key in pads}

    def _pad(self, key: str, values: list[int], length: int, pad: int) -> list[int]:
        padding = [pad] * (length - len(values))
        return values + padding if key in self._host.second_text else padding + values

    def letters(self, question: str) -> tuple[int, ...]:
        """Token ids of the letters A to D right after the prompt with this question."""
        answers = [self._host.answer(letter) for letter in LETTERS]
        return letter_ids(self._processor.tokenizer, self._host.prompt(question), answers)

    def _row(self, question: TrainingQuestion) -> dict[str, list[int]]:
        size = (32, 32)  # only the placeholders matter; where their number is fixed, any image will do
        if self._host.dynamic:
            if question.image not in self._sizes:
                self._sizes[question.image] = open_image(question.image).size
            size = self._sizes[question.image]
        key = (question.question, question.letter, size)
        if key not in self._rows:
            encoded = self._processor(images=[Image.new("RGB", size)], text=[self._host.prompt(question.question)])
            texts = [name for name in encoded if name not in self._processor.image_processor.model_input_names]
            row = {name: list(map(int, encoded[name][0])) for name in texts}
            answer = [self.letters(question.question)[LETTERS.index(question.letter)], *self._ending]
            if self._start is not None:
                row["decoder_input_ids"] = [self._start, *answer]
            else:
                for name in row.keys() - set(self._host.second_text):
                    row[name] += {"input_ids": answer, "attention_mask": [1] * len(answer)}.get(name, [0] * len(answer))
            self._rows[key] = row
        return self._rows[key]


class Images:
    """Image inputs of a model by image path; where memory allows it, outputs of the frozen tower stand in the place of pixels.

    In that case a replay replaces the tower in the model until `close`, and every image goes through the real tower once, alone, so
    that its features do not depend on the other images of a batch.
    """

    def __init__(self, loaded: LoadedHost, paths: Sequence[Path], cache_bytes: float) -> None:
        self._host, self._model, self._processor = loaded.host, loaded.model, loaded.processor
        self._tower = self._model.get_submodule(self._host.tower)
        self._parameter = next(self._tower.parameters())
        self._cache: dict[Path, dict[str, Tensor]] = {}
        distinct = len(set(paths))
        encoded = self._encoded(self._inputs(paths[0]))
        self.features = encoded is not None and _nbytes(encoded) * distinct <= cache_bytes
        self._keeps = self.features or _nbytes(self._inputs(paths[0])) * distinct <= cache_bytes
        if self.features:
            replay, bridge = self._host.replay(self._tower, self._model.config), getattr(self._tower, "bridge", None)
            self._model.set_submodule(self._host.tower, replay if bridge is None else BridgedReplay(bridge, replay))

    def batch(self, paths: Sequence[Path]) -> dict[str, Tensor]:
        """Image inputs of a batch on the model's device: `pixel_values` and others that the host's image processor makes."""
        found = [self._of(path) for path in paths]
        return {key: torch.cat([inputs[key] for inputs in found]).to(self._parameter.device) for key in found[0]}

    def close(self) -> None:
        """Put the real tower back into the model."""
        self._model.set_submodule(self._host.tower, self._tower)

    def _of(self, path: Path) -> dict[str, Tensor]:
        if path in self._cache:
            return self._cache[path]
        inputs = self._inputs(path)
        content = (self._encoded(inputs) if self.features else None) or inputs
        if self._keeps:
            self._cache[path] = content
        return content

    def _inputs(self, path: Path) -> dict[str, Tensor]:
        # the whole processor, not its image processor alone: some pass options on to it (InternVL's tiles)
        encoded: Any = self._processor(images=[open_image(path)], text=[self._host.prompt("")], return_tensors="pt")
        names, dtype = self._processor.image_processor.model_input_names, self._parameter.dtype
        found = {name: encoded[name] for name in names if name in encoded}
        return {name: value.to(dtype) if value.is_floating_point() else value for name, value in found.items()}

    @torch.no_grad()
    def _encoded(self, inputs: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """The inputs with the tower's output in the place of pixels; None where the host keeps none of it."""
        moved = {key: value.to(self._parameter.device) for key, value in inputs.items()}
        with without_bridge(self._tower):
            features = self._host.encode(self._tower, self._model.config, moved)
        return None if features is None else inputs | {"pixel_values": features.cpu()}


def _nbytes(inputs: dict[str, Tensor]) -> int:
    return sum(value.nbytes for value in inputs.values())
