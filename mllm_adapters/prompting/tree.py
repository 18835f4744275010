"""One forward pass over prompts that begin alike: their common start is computed once, every ending sees the start and itself.

The prompts of a case differ only in the question and in the order of the options, which stand at the end, after hundreds of image
tokens. All prompts are written as a tree into a single sequence, one branch after the other, and what some of them have in common
is one branch: a token attends to itself and to the tokens that lead to it, and its position is its distance from the root. Every
ending therefore gets the same numbers as in a pass of its own, but what is common is computed only once.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.prompts import EncodedPrompts
from mllm_adapters.prompting.token_rows import token_rows
from mllm_adapters.prompting.tree_attention import tree_attention

#: How the tokens of a tree attend: limb by limb, which computes nothing that is hidden but takes many small steps, or all at once.
Attention = Literal["limbs", "mask"]


@dataclass
class PromptTree:
    """Token ids of a tree of prompts, written one branch after the other.

    Attributes:
        ids: ids of all tokens.
        depth: for each token, its position in the prompt that it belongs to.
        places: for each branch, where its tokens lie in `ids`.
        leading: for each branch, the branches that lead to it, from the root on.
    """

    ids: list[int] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    places: list[range] = field(default_factory=list)
    leading: list[tuple[int, ...]] = field(default_factory=list)

    def grow(self, ids: Sequence[int], parent: int | None = None) -> int:
        """Add a branch of at least one token after the branch `parent`; returns the new branch's number."""
        first, start = len(self.ids), 0 if parent is None else self.depth[self.places[parent][-1]] + 1
        self.ids += ids
        self.depth += range(start, start + len(ids))
        self.places.append(range(first, first + len(ids)))
        self.leading.append(() if parent is None else (*self.leading[parent], parent))
        return len(self.places) - 1

    def limbs(self) -> list[range]:
        """Places in `ids` of the common start, and of each ending with all that follows it."""
        starts = [own.start for own, leading in zip(self.places, self.leading, strict=True) if leading in ((), (0,))]
        return [range(*ends) for ends in pairwise([*starts, len(self.ids)])]

    def visible(self) -> Tensor:
        """Mask of which token (row) sees which (column): bool [length, length]."""
        seen = torch.zeros(len(self.ids), len(self.ids), dtype=torch.bool)
        for own, leading in zip(self.places, self.leading, strict=True):
            rows = slice(own.start, own.stop)
            seen[rows, rows] = torch.ones(len(own), len(own), dtype=torch.bool).tril()
            for branch in leading:
                seen[rows, self.places[branch].start : self.places[branch].stop] = True
        return seen


def tree_log_probs(
    loaded: LoadedHost,
    encoded: Sequence[EncodedPrompts],
    continuations: Sequence[Sequence[Sequence[Sequence[int]]]],
    attention: Attention = "limbs",
) -> list[list[list[Tensor]]]:
    """Log-probabilities of each continuation's tokens after each prompt, and of all tokens right after the prompt.

    Args:
        loaded: a decoder-only host.
        encoded: prompts of each case.
        continuations: [case][prompt][continuation] token ids.
        attention: limb by limb, or over whole trees with what is hidden under a mask.

    Returns:
        [case][prompt] list of float32 tensors on the CPU: first that of the whole vocabulary right after the prompt [V], then for
        every continuation its tokens' [length].
    """
    trees, slots = [], []
    for case, wanted in zip(encoded, continuations, strict=True):
        tree, places = _plant(case, wanted)
        trees.append(tree)
        slots.append(places)
    logits, kept = _forward(loaded, encoded, trees, slots, attention)
    result = []
    for row, (wanted, places) in enumerate(zip(continuations, slots, strict=True)):
        found = []
        for prompt, branches in zip(wanted, places, strict=True):
            slot, *others = (logits[row, [kept[place] for place in b]].float().log_softmax(-1) for b in branches)
            found.append(
                [slot[0].cpu(), *(o[range(len(c)), list(c)].cpu() for o, c in zip(others, prompt, strict=True))]
            )
        result.append(found)
    return result


def _plant(case: EncodedPrompts, wanted: Sequence[Sequence[Sequence[int]]]) -> tuple[PromptTree, list[list[list[int]]]]:
    """Build the tree of a case, and for every prompt list the places whose logits predict its answer slot and its continuations."""
    tree, places = PromptTree(), {}

    def branch_out(prompts: Sequence[int], first: int, parent: int | None) -> None:
        """Grow what these prompts, alike before the token `first`, say from there on; each ends in a branch of its own."""
        rows = [case.ids[prompt] for prompt in prompts]
        fork, last = (
            first,
            min(map(len, rows)) - 1,
        )  # the last token stays out, so that every prompt keeps one of its own
        while len(rows) > 1 and fork < last and all(row[fork] == rows[0][fork] for row in rows):
            fork += 1
        if fork > first:
            parent = tree.grow(rows[0][first:fork], parent)
        ways: dict[int, list[int]] = {}
        for prompt, row in zip(prompts, rows, strict=True):
            ways.setdefault(row[fork], []).append(prompt)
        for same in ways.values():
            if len(ways) > 1 and len(same) > 1:
                branch_out(same, fork, parent)
                continue
            for prompt in same:  # alone, or with nothing left to share
                places[prompt] = _grow_answers(tree, tree.grow(case.ids[prompt][fork:], parent), wanted[prompt])

    branch_out(range(len(case.ids)), 0, None)
    return tree, [places[prompt] for prompt in range(len(case.ids))]


def _grow_answers(tree: PromptTree, ending: int, continuations: Sequence[Sequence[int]]) -> list[list[int]]:
    """Grow continuations behind the branch in which a prompt ends; for its slot and each of them, the places that predict it."""
    slot = tree.places[ending][-1]
    found = [[slot]]
    for continuation in continuations:
        before_last = list(continuation[:-1])  # nothing follows the last token, so it need not be read
        found.append([slot, *(tree.places[tree.grow(before_last, ending)] if before_last else ())])
    return found


def _forward(
    loaded: LoadedHost,
    encoded: Sequence[EncodedPrompts],
    trees: Sequence[PromptTree],
    slots: Sequence[Sequence[Sequence[Sequence[int]]]],
    attention: Attention,
) -> tuple[Tensor, dict[int, int]]:
    """Run the model; returns logits [cases, kept places, V] and the index of each place of a tree among the kept ones."""
    model, length = loaded.model, max(len(tree.ids) for tree in trees)
    ids = torch.full((len(trees), length), token_rows(loaded).padding)
    visible = torch.eye(length, dtype=torch.bool).repeat(
        len(trees), 1, 1
    )  # padding sees itself, so that nothing is NaN
    for row, tree in enumerate(trees):
        size = len(tree.ids)
        ids[row, :size] = torch.tensor(tree.ids)
        visible[row, :size, :size] = tree.visible()
    mask = torch.zeros(visible.shape, dtype=model.dtype).masked_fill(~visible, torch.finfo(model.dtype).min)
    images = [case.image for case in encoded]
    inputs: dict[str, Any] = {name: torch.cat([image[name] for image in images]) for name in images[0]}
    inputs |= {"input_ids": ids, "attention_mask": mask[:, None]}
    inputs["position_ids"] = _positions(loaded, encoded, trees, length)
    places = sorted({place for case in slots for prompt in case for branch in prompt for place in branch})
    inputs["logits_to_keep"] = torch.tensor(places)
    moved = {name: value.to(model.device) for name, value in inputs.items()}
    with tree_attention(model, [tree.limbs() for tree in trees]) if attention == "limbs" else nullcontext():
        logits = model(**moved, use_cache=False).logits
    return logits, {place: index for index, place in enumerate(places)}


def _positions(
    loaded: LoadedHost, encoded: Sequence[EncodedPrompts], trees: Sequence[PromptTree], length: int
) -> Tensor:
    """Position of every token: [cases, length], or [axes, cases, length] where there are images and `Host.own_positions` is set."""
    depths = torch.zeros(len(trees), length, dtype=torch.long)
    for row, tree in enumerate(trees):
        depths[row, : len(tree.ids)] = torch.tensor(tree.depth)
    if loaded.host.position_axes == 1 or not encoded[0].image:
        return depths
    rows = []
    for case, tree in zip(encoded, trees, strict=True):
        own = loaded.host.own_positions(loaded.model, case).cpu()  # [axes, length of the first prompt]
        beyond = own[:, -1:] + torch.arange(1, max(tree.depth) + 2 - own.shape[1])  # text goes on one by one
        rows.append(torch.cat((own, beyond), dim=1)[:, torch.tensor(tree.depth)])
    return torch.stack([torch.nn.functional.pad(row, (0, length - row.shape[1])) for row in rows], dim=1)
