"""Questions and conversations as token ids, and which of them are learnt: answers and replies, nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mgll.vocabulary.questions import LETTERS
from mllm_adapters.contract.host import Host, LoadedHost
from mllm_adapters.prompting.answer_slot import continuation_ids, decoder_start, letter_ids
from mllm_adapters.prompting.rows import padded
from mllm_adapters.prompting.token_rows import token_rows
from mllm_adapters.settings import Conversation, TrainingQuestion

#: What the loss leaves out.
IGNORED = -100
Example = TrainingQuestion | Conversation


@dataclass(frozen=True)
class TextBatch:
    """Text inputs of a batch.

    Attributes:
        inputs: `input_ids`, `attention_mask` and others that the host's processor makes, each [B, length].
        labels: for the last positions the token ids to learn, `IGNORED` elsewhere: [B, positions]. The logits that predict them
            are those of the positions before.
        questions: which rows are questions, whose first learnt token is a letter [B].
        cut: number of conversations that were cut.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    questions: Tensor
    cut: int = 0

    @property
    def keep(self) -> int:
        """Number of last positions of which logits are needed."""
        return self.labels.shape[1] + 1


@dataclass(frozen=True)
class _Row:
    inputs: dict[str, list[int]]
    labels: list[int]
    cut: bool = False


class Texts:
    """Prompts with what follows them as token ids, each question tokenised once.

    Sequences are padded on the left, therefore every row ends in what is learnt: of a question one letter token, then the
    end-of-sequence token where `Host.ends_with_eos` is set. The letter's id is the one that scoring will read
    (`mllm_adapters.prompting.answer_slot.letter_ids`). In an encoder-decoder model the answer stands in `decoder_input_ids`, padded
    on the right. So are the inputs of a second text encoder (`Host.second_text`), which never hold the answer: such encoders count
    positions from the first token.

    Args:
        loaded: the model whose processor is used.
        max_tokens: number of tokens at which conversations are cut.
    """

    def __init__(self, loaded: LoadedHost, max_tokens: int = 2048) -> None:
        self._host, self._processor, self._max_tokens = loaded.host, loaded.processor, max_tokens
        self._rows: dict[tuple[str, str, tuple[int, int]], _Row] = {}
        eos = self._processor.tokenizer.eos_token_id
        self._ending = [eos] if self._host.ends_with_eos else []
        self._start = decoder_start(loaded.model.config)
        # not the model: a worker process gets all that stands here
        self._known = token_rows(loaded)

    def batch(self, examples: Sequence[Example], sizes: Sequence[tuple[int, int]]) -> TextBatch:
        """Text inputs of a batch.

        Args:
            examples: what is learnt.
            sizes: width and height of each example's image, on which the number of image tokens may depend.

        Raises:
            FormatError: if a token has no row in the embeddings.
        """
        rows = [self._row(example, size) for example, size in zip(examples, sizes, strict=True)]
        pads = dict.fromkeys(rows[0].inputs, 0) | {"input_ids": self._known.padding}
        inputs = {key: self._padded(key, [row.inputs[key] for row in rows], pad) for key, pad in pads.items()}
        labels = self._padded(
            "labels" if self._start is None else "decoder_input_ids", [r.labels for r in rows], IGNORED
        )
        learnt = labels != IGNORED
        first = int(learnt.any(0).long().argmax())
        is_question = torch.tensor([isinstance(example, TrainingQuestion) for example in examples])
        return TextBatch(
            inputs, labels[:, first if self._start is None else 1 :], is_question, sum(r.cut for r in rows)
        )

    def _padded(self, key: str, rows: list[list[Any]], pad: int) -> Tensor:
        return padded(rows, pad, key in self._host.second_text or key == "decoder_input_ids")

    def letters(self, question: str) -> tuple[int, ...]:
        """Token ids of the letters A to D right after the prompt with this question."""
        answers = [self._host.answer(letter) for letter in LETTERS]
        return letter_ids(self._processor.tokenizer, self._host.prompt(question), answers)

    def _row(self, example: Example, size: tuple[int, int]) -> _Row:
        if not self._host.dynamic:
            size = (32, 32)  # only the placeholders matter; where their number is fixed, any image will do
        if isinstance(example, Conversation):  # rarely seen twice, so not kept
            return self._conversation(example, size)
        key = (example.question, example.letter, size)
        if key not in self._rows:
            answer = [self.letters(example.question)[LETTERS.index(example.letter)], *self._ending]
            self._rows[key] = self._ended(self._prompt(example.question, size), [(answer, True)])
        return self._rows[key]

    def _conversation(self, example: Conversation, size: tuple[int, int]) -> _Row:
        tokenizer, host = self._processor.tokenizer, self._host
        (question, reply), *later = example.turns
        (first,) = continuation_ids(tokenizer, host.prompt(question), [host.answer(reply)])
        pieces = [([*first, *self._ending], True)]
        for question, reply in later:
            asked = host.prompt(question).replace(host.marker, "", 1).removeprefix(host.preamble)
            pieces.append((tokenizer(asked, add_special_tokens=False)["input_ids"], False))
            (said,) = continuation_ids(tokenizer, host.prompt(question), [host.answer(reply)])
            pieces.append(([*said, *self._ending], True))
        return self._ended(self._prompt(example.turns[0][0], size), pieces)

    def _prompt(self, question: str, size: tuple[int, int]) -> dict[str, list[int]]:
        encoded = self._processor(images=[Image.new("RGB", size)], text=[self._host.prompt(question)])
        texts = [name for name in encoded if name not in self._processor.image_processor.model_input_names]
        return {name: np.asarray(encoded[name][0]).tolist() for name in texts}

    def _ended(self, prompt: dict[str, list[int]], pieces: Sequence[tuple[list[int], bool]]) -> _Row:
        """The row of a prompt and what follows it: token ids, each with whether they are learnt."""
        ids = [token for piece, _ in pieces for token in piece]
        labels = [token if learnt else IGNORED for piece, learnt in pieces for token in piece]
        if self._start is not None:
            end = self._max_tokens
            self._known.check(prompt)
            self._known.check({"input_ids": ids})
            return _Row(
                prompt | {"decoder_input_ids": [self._start, *ids[:end]]}, [IGNORED, *labels[:end]], len(ids) > end
            )
        before = prompt["input_ids"]
        end = max(2, self._max_tokens - len(before))  # a letter and its end are never cut
        ids, labels, cut = ids[:end], labels[:end], len(ids) > end
        beside: dict[str, Any] = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        row = {
            name: values
            if name in self._host.second_text
            else values + beside.get(name, [self._host.behind_prompt(name, values[-1])] * len(ids))
            for name, values in prompt.items()
        }
        self._known.check(row)
        return _Row(row, [IGNORED] * len(before) + labels, cut)


def single_turns(host: Host, conversations: Sequence[Conversation]) -> list[Conversation]:
    """The conversations as a host can read them: one whose second text encoder reads a single question gets them turn by turn."""
    if not host.second_text:
        return list(conversations)
    return [Conversation(found.image, (turn,)) for found in conversations for turn in found.turns]
