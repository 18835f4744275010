"""The text side of a tower: what turns its feature, and a text's, into points of the space in which pretraining compared them.

It travels in the tower file, under names that begin with `text_side.`: both projections, and of the text encoder the weights that
training changed. The text encoder itself does not travel; the header says which it was, by name and by hash, and how its tokens
are pooled. A host that takes the tower never sees any of this.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mgll.formats import FormatError, Row
from mgll.weights.reading import misfits
from mgll.weights.stored import Stored

if TYPE_CHECKING:
    from torch import Tensor

#: What the names of the text side's tensors begin with in a tower file.
PREFIX = "text_side."
#: Before the names of the text encoder's own weights, behind `PREFIX`.
ENCODER = "encoder."
_IMAGE, _OFFSET, _TEXT = "image_projection.weight", "image_projection.bias", "text_projection.weight"


class TextFacts(Row):
    """What a tower file says about its text side.

    Attributes:
        encoder: text encoder as the settings named it: `embedded`, a folder, or a model's id on the hub.
        sha256: `mgll.files.content_sha256` of its folder; None for a model of the hub.
        commit: its commit, for a model of the hub; None for a folder.
        pooling: which of its tokens stand for a text.
        width: channels of a text feature before the projection.
        feature_width: channels of the shared space.
        temperature: tau at the end of training, by which similarities were divided.
        bias: added to the logits of the point-wise term at the end of training.
        levels: granularities that the tower was trained against; `caption` where they were joined.
    """

    encoder: str
    sha256: str | None = None
    commit: str | None = None
    pooling: Literal["cls", "mean", "last"]
    width: int = Field(gt=0)
    feature_width: int = Field(gt=0)
    temperature: float = Field(gt=0)
    bias: float
    levels: tuple[str, ...]


@dataclass(frozen=True)
class TextSide:
    """Facts and weights.

    Attributes:
        facts: what the header says.
        image_projection: [feature width, tower width].
        text_projection: [feature width, text width].
        image_offset: added to the projected image feature [feature width]; None, if the tower is as it was trained.
        encoder: weights of the text encoder that training changed, by their names in transformers; empty for a frozen one.
    """

    facts: TextFacts
    image_projection: "Tensor"
    text_projection: "Tensor"
    image_offset: "Tensor | None" = None
    encoder: "Mapping[str, Tensor] | None" = None

    def image_features(self, pooled: "Tensor") -> "Tensor":
        """Points of the shared space [n, feature width], L2-normalised, of a tower's pooled features [n, tower width]."""
        from torch.nn.functional import linear, normalize

        return normalize(linear(pooled, self.image_projection, self.image_offset), dim=1)

    def text_features(self, pooled: "Tensor") -> "Tensor":
        """Points of the shared space [n, feature width], L2-normalised, of a text encoder's pooled features [n, text width]."""
        from torch.nn.functional import linear, normalize

        return normalize(linear(pooled, self.text_projection), dim=1)

    def for_standardised(self, mean: "Tensor", deviation: "Tensor") -> "TextSide":
        """The text side of the same tower with its pooled feature less `mean` and divided by `deviation`, both [tower width]."""
        offset = self.image_projection @ mean
        return replace(
            self,
            image_projection=self.image_projection * deviation,
            image_offset=offset if self.image_offset is None else self.image_offset + offset,
        )


def to_tensors(side: TextSide) -> "dict[str, Tensor]":
    """The tensors of a text side under their names in a tower file."""
    found = {_IMAGE: side.image_projection, _TEXT: side.text_projection}
    if side.image_offset is not None:
        found[_OFFSET] = side.image_offset
    found |= {ENCODER + name: tensor for name, tensor in (side.encoder or {}).items()}
    return {PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}


def from_tensors(facts: TextFacts, tensors: "Mapping[str, Tensor]") -> TextSide:
    """The text side in all tensors of a tower file, which `check_text_side` has found in order."""
    own = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    encoder = {name.removeprefix(ENCODER): tensor for name, tensor in own.items() if name.startswith(ENCODER)}
    return TextSide(facts, own[_IMAGE], own[_TEXT], own.get(_OFFSET), encoder)


def check_text_side(path: Path, facts: TextFacts | None, found: Mapping[str, Stored], width: int) -> None:
    """Check the tensors of a tower file's text side against its header.

    Args:
        path: the tower file.
        facts: what the header says; None if it says nothing.
        found: the tensors whose names begin with `PREFIX`.
        width: channels of the tower's pooled feature.

    Raises:
        FormatError: if tensors are missing, surplus or misshapen.
    """
    if facts is None:
        if found:
            raise FormatError(path, None, f"its header says nothing of a text side, but it holds {min(found)}")
        return
    expected = {
        PREFIX + _IMAGE: (facts.feature_width, width),
        PREFIX + _TEXT: (facts.feature_width, facts.width),
        PREFIX + _OFFSET: (facts.feature_width,),
    }
    own = {name: stored for name, stored in found.items() if not name.startswith(PREFIX + ENCODER)}
    if PREFIX + _OFFSET not in own:
        del expected[PREFIX + _OFFSET]
    if problems := misfits(own, expected, "its header says"):
        raise FormatError(path, None, "its text side does not fit its header: " + "; ".join(problems[:8]))
