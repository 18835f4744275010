"""Prompt learning on a frozen image-text pair: the few-label baseline that trains words instead of a classifier.

A context in front of the class names is learned, a vector in the place of each of its words, the same for all classes (CoOp, Zhou
2022); tower, projections and text encoder stay as they are. KgCoOp (Yao 2023, the paper's Tables 15 to 23) also holds the classes'
points near those of the prompts that people wrote.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mgll.evaluation.classes import Grades
from mgll.evaluation.probe import judged_auc
from mgll.evaluation.stopping import Kept, train_until_best
from mgll.evaluation.zero_shot import ENSEMBLE, TextReader, class_points, one_against_rest
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS

Method = Literal["CoOp", "KgCoOp"]
METHODS: tuple[Method, ...] = ("CoOp", "KgCoOp")
#: The words whose vectors the context starts from, as published.
CONTEXT = "a photo of a"
#: How much KgCoOp's distance weighs beside the cross-entropy, as published.
KNOWLEDGE = 8.0
_LEARNING_RATE = 2e-3
#: Validation judges after every so many steps.
_STEPS, _ROUNDS, _PATIENCE = 5, 12, 4


class Prompts(nn.Module):
    """Points of class names behind a context that can be learned."""

    def __init__(self, reader: TextReader, names: Sequence[str]) -> None:
        """Start from the vectors of `CONTEXT`.

        Args:
            reader: the tower's text side; its weights are never changed.
            names: of the classes.

        Raises:
            ValueError: if the context and a name share a token, so that the context can't be told from the name.
        """
        super().__init__()
        self._reader = [reader]  # in a list, so that its weights are no parameters of this module
        encoder = reader.encoder
        tokens = encoder.tokenise([CONTEXT, *(f"{CONTEXT} {name}" for name in names)])
        ids, mask = tokens.batch(torch.arange(1, len(names) + 1))
        special = set(encoder.tokenizer.all_special_ids)
        words = tokens.ids[: tokens.bounds[1]].tolist()
        self.start = int(words[0] in special)
        own = [token for token in words if token not in special]
        self.end = self.start + len(own)
        if any(row[self.start : self.end] != own for row in ids.tolist()):
            raise ValueError(f"the text encoder's tokens of {CONTEXT!r} run into those of a class name")
        device = next(encoder.parameters()).device
        self.register_buffer("ids", ids.to(device))
        self.register_buffer("mask", mask.to(device))
        with torch.no_grad():
            vectors = encoder.model.get_input_embeddings()(torch.tensor(own, device=device))
        self.context = nn.Parameter(vectors.clone())

    def forward(self) -> Tensor:
        """Points of the classes in the shared space [classes, feature width], L2-normalised."""
        (reader,) = self._reader

        def put(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            learned = self.context.to(output.dtype).expand(len(output), -1, -1)
            return torch.cat([output[:, : self.start], learned, output[:, self.end :]], dim=1)

        hook = reader.encoder.model.get_input_embeddings().register_forward_hook(put)
        try:
            pooled = reader.encoder(self.ids, self.mask)
        finally:
            hook.remove()
        return reader.side.text_features(normalize(pooled.float().cpu(), dim=1))


def learn_prompts(
    method: Method,
    reader: TextReader,
    classes: Sequence[str],
    train: np.ndarray,
    train_truth: np.ndarray,
    validation: np.ndarray,
    validation_truth: np.ndarray,
    grades: Grades = "fold",
    table: ClassTable = FUNDUS,
    folder: Path | None = None,
) -> tuple[Prompts, str]:
    """Learn a context on a few labelled images, as long as the macro AUC on validation gains.

    An image of several classes asks for all of them alike; one of none of the classes takes no part, and is counted.

    Args:
        method: `CoOp`, or `KgCoOp`, which stays near the prompts that people wrote.
        reader: the tower's text side.
        classes: class codes.
        train: pooled features of the training images [N, width].
        train_truth: whether a training image has a class [N, classes].
        validation: pooled features of other patients' images [M, width].
        validation_truth: [M, classes].
        grades: whether grades count as what they grade, for KgCoOp's prompts.
        table: the class table, which has the words.
        folder: where each round is kept, so that a killed training goes on; for this one alone. None keeps nothing.

    Returns:
        The prompts, and a sentence that says what was chosen.

    Raises:
        ValueError: if no training image has one of the classes, or the text encoder cannot follow.
    """
    used = train_truth.any(axis=1)
    if not used.any():
        raise ValueError("no training image has one of the classes")
    reader.encoder.requires_grad_(False)
    images = torch.from_numpy(reader.image_points(train[used]))
    targets = torch.from_numpy(train_truth[used] / train_truth[used].sum(axis=1, keepdims=True)).float()
    prompts = Prompts(reader, [table.classes[code].name if code in table.classes else code for code in classes])
    written = torch.from_numpy(class_points(reader, classes, grades, table)[ENSEMBLE]).float()
    optimizer = torch.optim.Adam([prompts.context], lr=_LEARNING_RATE)

    def few_steps(_round: int) -> None:
        for _ in range(_STEPS):
            points = prompts()
            loss = cross_entropy(images @ points.T / reader.side.facts.temperature, targets)
            if method == "KgCoOp":
                loss = loss + KNOWLEDGE * (points - written).square().sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def judge() -> float:
        return judged_auc(validation_truth, prompt_scores(prompts, reader, validation))

    kept = Kept(folder, optimizer) if folder else None
    _, reached = train_until_best(prompts, few_steps, judge, _ROUNDS, _PATIENCE, method, kept)
    left = int((~used).sum())
    said = f"{_STEPS * reached} steps chosen on validation" + (
        f"; {left} images have none of the classes" if left else ""
    )
    return prompts, said


@torch.no_grad()
def prompt_scores(prompts: Prompts, reader: TextReader, features: np.ndarray) -> np.ndarray:
    """Logits [n, classes] of pooled features [n, width]: of each class against all others, as zero-shot's."""
    points = prompts().numpy()
    return one_against_rest(reader.image_points(features) @ points.T / reader.side.facts.temperature)
