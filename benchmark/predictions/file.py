"""What a model said about each case: the file between scoring and reports.

One row a case and rotation, after a header that says which model, cases and questions the rows belong to. While a run is
going the rows stand in a journal a process beside the final file, flushed batch by batch, so that a killed run goes on.

`python -m benchmark.predictions validate FILE` checks a file and names the line and field that is wrong.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pydantic import Field, model_validator

from benchmark.cases.case import Case
from benchmark.stats.rotations import SAME
from mgll.formats import FormatError, Row, numbered_rows, read_header, write_rows
from mgll.vocabulary.questions import question_text

SCHEMA = "mgll.predictions/2"
FILE = "predictions.jsonl"


_REMEDY = "copy it again, or start the run again with the same --out: it scores what is missing"

#: Header entries that say what was scored. Rows of runs that differ in one of them never share a file.
IDENTITY = ("model_sha256", "cases_sha256", "questions_sha256", "images", "rotations", "views")


class ComparisonError(ValueError):
    """Two runs that must not be compared; the message names what differs."""


class Prediction(Row):
    """One answer of a model. Options are numbered in *stored* order, whatever the rotation in which they were asked.

    Attributes:
        case: id of the case.
        rotation: index into `benchmark.stats.rotations.PERMUTATIONS`; 0 is the stored order.
        log_probs: natural-log probabilities of the options, read at their letters; the four sum to 1. None without letter view.
        text: what the model wrote: its reply in the text view, else the most probable token at the answer slot.
        said: option that the reply names by `benchmark.replies`; None where it names none, or without text view.
        option_log_probs: mean natural-log likelihood a token of the options' own texts; None without option view.
        letter_mass: probability that the model gives the four letters together, of its whole vocabulary, at the place of the
            answer; from a server the sum over those that it lists. None where the scorer cannot know.
        chosen: the answer that counts: the most probable option, without letter view what was `said`; None where the reply names
            none, which is wrong, and where several options are equally probable.
        tied: whether several options are equally probable. Files of earlier versions name the first of them as `chosen`; they are
            read as if they said this.
        answer: index of the true option.
        code: class code of the true option.
        group: patient or eye; intervals are clustered by it.
        source: data set the image comes from.
        prompt_sha256: SHA-256 of the whole prompt as the model got it.
    """

    case: str = Field(min_length=1)
    rotation: int = Field(ge=0, lt=24, strict=True)
    log_probs: tuple[float, float, float, float] | None = None
    text: str = ""
    said: int | None = Field(default=None, ge=0, le=3, strict=True)
    option_log_probs: tuple[float, float, float, float] | None = None
    letter_mass: float | None = Field(default=None, ge=0, le=1)
    chosen: int | None = Field(default=None, ge=0, le=3, strict=True)
    tied: bool = Field(default=False, strict=True)
    answer: int = Field(ge=0, le=3, strict=True)
    code: str = Field(min_length=1)
    group: str = Field(min_length=1)
    source: str
    prompt_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Prediction":
        for name in ("log_probs", "option_log_probs"):
            values = getattr(self, name)
            if values is not None and not all(math.isfinite(value) for value in values):
                raise ValueError(f"{name} must be finite")
        if self.log_probs is not None:
            total = math.fsum(math.exp(min(value, 1.0)) for value in self.log_probs)
            if abs(total - 1) > 1e-3:
                raise ValueError(f"log_probs: the four probabilities sum to {total:.4f} instead of 1")
        probable = None if self.log_probs is None else most_probable(self.log_probs)
        tie = self.log_probs is not None and probable is None
        if (
            tie
            and self.log_probs is not None
            and not self.tied
            and self.chosen == self.log_probs.index(max(self.log_probs))
        ):
            # a row of an earlier version; a frozen model lets nothing else fill a field after validation
            object.__setattr__(self, "chosen", None)
            object.__setattr__(self, "tied", True)
        expected = self.said if self.log_probs is None else probable
        if self.chosen != expected:
            counts = "none: several options tie" if tie else expected
            raise ValueError(f"chosen is {self.chosen}, but the answer that counts is {counts}")
        if self.tied != tie:
            raise ValueError(f"tied is {self.tied}, but by log_probs {'several options' if tie else 'no options'} tie")
        return self

    @property
    def correct(self) -> bool:
        """Whether the chosen option is the true one; of options that tie none is chosen."""
        return self.chosen == self.answer

    @property
    def likeliest(self) -> int | None:
        """Option whose own text is most likely; None without option view, and where several are equally likely."""
        return None if self.option_log_probs is None else most_probable(self.option_log_probs)

    def probability(self, option: int) -> float:
        """Probability of an option, relative to the four; without letter view 1 for what was said and 0 for the rest."""
        return float(option == self.said) if self.log_probs is None else math.exp(self.log_probs[option])


@dataclass(frozen=True)
class Run:
    """A predictions file in memory.

    Attributes:
        header: what was scored and how; `model` is its name, the entries of `IDENTITY` tell runs apart.
        predictions: the rows in the order of the cases.
    """

    header: dict[str, Any]
    predictions: tuple[Prediction, ...]

    @property
    def name(self) -> str:
        """The model's name, marked where it saw other images than the cases' own."""
        marks = {
            "own": "",
            "blank": " (blind)",
            "shuffled": " (shuffled images)",
            "source": " (mean images of the sources)",
            "border": " (borders only)",
        }
        return f"{self.header['model']}{marks[self.header['images']]}"


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read and check predictions: a file, or the output directory that holds one.

    Raises:
        FormatError: naming line and field; also for a run that has not finished, and for a file that holds fewer or more rows than
            its header says. Files of earlier versions do not say it; `check_complete` finds what they lack.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / FILE).exists() and (unfinished := journals(path)):
            raise FormatError(unfinished[0], None, "this run has not finished; start it again to let it go on")
        path = path / FILE
    run = _read(path)
    if not run.predictions:
        raise FormatError(path, None, "no prediction")
    found, written = len(run.predictions), run.header.get("answers", len(run.predictions))
    if found != written:
        raise FormatError(
            path, None, f"{found:,} predictions, but the header says {written}: the file was cut or changed; {_REMEDY}"
        )
    return run


def write_run(path: str | os.PathLike[str], run: Run) -> None:
    """Write predictions atomically."""
    write_rows(path, SCHEMA, run.predictions, **{key: value for key, value in run.header.items() if key != "schema"})


def check_complete(run: Run, cases: Sequence[Case]) -> None:
    """Refuse a run that does not answer each of the cases in every order in which it says it asked, or that answers others.

    Raises:
        ComparisonError: saying how much is missing, or what does not belong, and what to do.
    """
    by_id = {case.id: case for case in cases}
    rotations = range(run.header["rotations"])
    rows = {(row.case, row.rotation): row for row in run.predictions}
    missing = [(case, rotation) for case in by_id for rotation in rotations if (case, rotation) not in rows]
    if missing:
        case, rotation = missing[0]
        raise ComparisonError(
            f"{run.name!r} has {len(rows) - len(rows.keys() - _keys(by_id, rotations)):,} of the"
            f" {len(by_id) * len(rotations):,} answers of these cases; the first that is missing is case {case!r}, rotation"
            f" {rotation}: the file was cut, or made of other cases; {_REMEDY}"
        )
    for (case, rotation), row in rows.items():
        if case not in by_id or rotation not in rotations:
            raise ComparisonError(
                f"{run.name!r} answers case {case!r}, rotation {rotation}, which was not asked: its file was changed by hand, or"
                f" joined from several; {_REMEDY}"
            )
        if (row.answer, row.code) != (by_id[case].answer, by_id[case].code):
            raise ComparisonError(
                f"{run.name!r} says that case {case!r} has option {row.answer} ({row.code}) as its answer, but the case says"
                f" {by_id[case].answer} ({by_id[case].code}): give the cases that were asked, or score them again"
            )


def _keys(cases: Iterable[str], rotations: range) -> set[tuple[str, int]]:
    return {(case, rotation) for case in cases for rotation in rotations}


def differences(first: Run, second: Run, prompts: bool = True) -> list[str]:
    """Say what keeps two runs from being compared case by case; empty where nothing does.

    Args:
        first: one run.
        second: the other.
        prompts: whether a different wrapping of the same question counts too (two families of host have two templates).
    """
    found = []
    ours, theirs = ({(p.case, p.rotation): p for p in run.predictions} for run in (first, second))
    if ours.keys() != theirs.keys():
        missing, surplus = len(ours.keys() - theirs.keys()), len(theirs.keys() - ours.keys())
        found.append(f"cases: {missing} only in {first.name!r}, {surplus} only in {second.name!r}")
    elif first.header["cases_sha256"] != second.header["cases_sha256"]:
        found.append("cases: same ids, but other images, options or answers")
    elif first.header["questions_sha256"] != second.header["questions_sha256"]:
        found.append("questions: the same cases were asked in other words")
    elif prompts and (changed := sum(ours[key].prompt_sha256 != theirs[key].prompt_sha256 for key in ours)):
        found.append(f"prompts: the hosts wrap the question differently ({changed} of {len(ours)} cases)")
    return found


def cases_sha256(cases: Iterable[Case]) -> str:
    """Hash of what is asked about what, wherever the files lie."""
    fields = {"id", "image_sha256", "group", "source", "question", "options", "option_codes", "answer"}
    return _digest(case.model_dump(include=fields) for case in cases)


def questions_sha256(cases: Iterable[Case]) -> str:
    """Hash of the questions as they are put to every model, before its host wraps them."""
    return _digest(question_text(case.question, case.options) for case in cases)


def most_probable(log_probs: Sequence[float]) -> int | None:
    """Index of the largest; None where several are equally probable, by the measure of `rotations.expected_correct`.

    Logits in bfloat16 are coarse: two letters often have the very same one, and which would come first depends on nothing but
    its place. Letters' log-probabilities are computed from them in float32, where what is equal stays equal.
    """
    least = math.exp(max(log_probs)) - SAME
    tied = [index for index, value in enumerate(log_probs) if math.exp(value) >= least]
    return tied[0] if len(tied) == 1 else None


def journals(out: Path) -> list[Path]:
    """Paths of the journals that the processes of an unfinished run left in its output directory."""
    return sorted(out.glob("predictions.partial-*.jsonl"))


def journal_path(out: Path, process: int) -> Path:
    """Path at which a process of a run writes its rows until the rows of all processes are there."""
    return out / f"predictions.partial-{process}.jsonl"


def start_journal(path: Path, header: dict[str, Any], rows: Sequence[Prediction]) -> TextIO:
    """Write the header and the rows kept from an interrupted run; return the file to append further rows to."""
    write_run(path, Run(header, tuple(rows)))
    return path.open("a", encoding="utf-8")


def append_rows(journal: TextIO, rows: Iterable[Prediction]) -> None:
    """Append rows and hand them to the disk."""
    journal.writelines(row.model_dump_json(exclude_defaults=True) + "\n" for row in rows)
    journal.flush()
    os.fsync(journal.fileno())


def read_journal(path: Path) -> Run:
    """Read what an interrupted run left. A last line that the kill cut short is removed from the file.

    Raises:
        FormatError: naming line and field of a row that is wrong for another reason.
    """
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    return _read(path)


def _read(path: Path) -> Run:
    header = _checked_header(path)
    seen: dict[tuple[str, int], int] = {}
    rows = []
    for line, row in numbered_rows(path, SCHEMA, Prediction):
        first = seen.setdefault((row.case, row.rotation), line)
        if first != line:
            raise FormatError(
                path, line, f"field case: {row.case!r}, rotation {row.rotation}, stands in line {first} too"
            )
        rows.append(row)
    return Run(header, tuple(rows))


def _checked_header(path: Path) -> dict[str, Any]:
    header = read_header(path, SCHEMA)
    missing = [key for key in ("model", *IDENTITY) if key not in header]
    if missing:
        raise FormatError(path, 1, f"the header lacks {', '.join(missing)}")
    return header


def _digest(values: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(json.dumps(value, ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()
