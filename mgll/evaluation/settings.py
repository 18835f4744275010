"""How a tower is evaluated."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Literal

from mgll.evaluation.classes import Grades
from mgll.evaluation.features import Precision
from mgll.evaluation.probe import STRENGTHS
from mgll.flags import CommandParser, hyphens
from mgll.images.preprocessing import Decode

#: Blocks of a tower that are fine-tuned, counted from the last; `full` is all of the tower.
Blocks = int | Literal["full"]

#: Settings that change where features lie and how fast they come, not what is read.
_ASIDE = ("cache", "batch_size")
#: Settings that are no part of an evaluation that was not asked for them.
_EXTRA = ("attentive", "fine_tune", "fine_tune_epochs", "prompt_learning", "decode")


@dataclass(frozen=True)
class EvaluationSettings:
    """How a tower is evaluated; the same for all towers that are to be compared.

    Attributes:
        cache: folder of the features' cache.
        split: the images that are read. With `val` they are those by which the probe's strength is chosen too.
        grades: `fold` grades into what they grade, or `keep` them as classes of their own.
        min_train: training images that a class must have, and lack.
        min_read: images that a class must have among those that are read, and lack.
        strengths: inverse strengths C of the probe, from which validation chooses.
        neighbours: of the k-NN.
        shares: shares of the training patients whose labels the few-label probes get.
        draws: seeded draws of each share. Every share of a draw holds the smaller ones.
        leave_source_out: also fit on all sources but one and read on that one.
        left_out_images: read the left-out source's images of `split` alone, or `all`, if pretraining has not seen it either.
        rare: a class with fewer training images is rare.
        zero_shot: also read by class names, where the tower brings its text side.
        text_encoder: folder of that text encoder, where it has moved since.
        attentive: also read the grid by an attentive probe.
        fine_tune: also fine-tune so many of the last blocks, each number a reading; `full` is all of the tower.
        fine_tune_epochs: most epochs of each; validation ends it earlier.
        prompt_learning: also learn prompts (CoOp, KgCoOp) with few labels, where the tower brings its text side.
        precision: see `mgll.evaluation.features.features_of`.
        batch_size: images at once.
        decode: how large JPEG files are decoded, `draft` or `exact`, whatever the tower was trained with; None as it was.
    """

    cache: str = "runs/features"
    split: Literal["val", "test"] = "test"
    grades: Grades = "fold"
    min_train: int = 30
    min_read: int = 5
    strengths: tuple[float, ...] = STRENGTHS
    neighbours: int = 20
    shares: tuple[float, ...] = (0.01, 0.05, 0.1, 0.5)
    draws: int = 3
    leave_source_out: bool = True
    left_out_images: Literal["split", "all"] = "split"
    rare: int = 150
    zero_shot: bool = True
    text_encoder: str | None = None
    attentive: bool = False
    fine_tune: tuple[Blocks, ...] = ()
    fine_tune_epochs: int = 20
    prompt_learning: bool = False
    precision: Precision = "auto"
    batch_size: int = 64
    decode: Decode | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be evaluated, and what would be read twice under one name.

        Raises:
            ValueError: naming the flag.
        """
        for name in ("min_train", "min_read", "neighbours", "draws", "fine_tune_epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{hyphens(name)} {getattr(self, name)}: give 1 or more")
        if not self.strengths or not all(0 < strength < inf for strength in self.strengths):
            raise ValueError(f"--strengths {_listed(self.strengths)}: give one or more numbers above 0")
        if not all(0 < share <= 1 for share in self.shares):
            raise ValueError(f"--shares {_listed(self.shares)}: give shares of the labels, above 0 and at most 1")
        for name in ("shares", "fine_tune"):
            said = [f"{item:g}" if isinstance(item, float) else str(item) for item in getattr(self, name)]
            if twice := sorted({item for item in said if said.count(item) > 1}):
                raise ValueError(f"--{hyphens(name)} {' '.join(said)}: {', '.join(twice)} stands there twice")

    def identity(self) -> dict[str, Any]:
        """What of these settings decides what is read; what was not asked for is no part of it, as files of before had none."""
        asked = {key: value for key, value in asdict(self).items() if key not in _ASIDE}
        usual = EvaluationSettings()
        return {key: value for key, value in asked.items() if key not in _EXTRA or value != getattr(usual, key)}


def add_probe_arguments(parser: CommandParser) -> None:
    """Add the flags of what a probe asks for, of commands that read by a probe alone."""
    default = EvaluationSettings()
    for name, meaning in (("min_train", "training images"), ("min_read", "images of the split that is read")):
        said = f"{meaning} that a class must have; fewer make small sets readable, and noisier (default: %(default)s)"
        parser.add_argument(f"--{hyphens(name)}", type=int, default=getattr(default, name), help=said)
    said = "strengths C from which validation chooses; with a single one nothing is chosen (default: %(default)s)"
    parser.add_argument("--strengths", type=float, nargs="+", default=default.strengths, help=said)


def probe_settings(options: Namespace) -> dict[str, Any]:
    """What the flags of `add_probe_arguments` say, as arguments of `EvaluationSettings`."""
    return {
        "min_train": options.min_train,
        "min_read": options.min_read,
        "strengths": tuple(options.strengths),
    }


def _listed(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:g}" for number in numbers) or "(nothing)"
