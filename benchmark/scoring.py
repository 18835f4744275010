"""Putting the cases to a model, so that a killed run goes on and nothing is ever mixed."""

import hashlib
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from benchmark.cases import Case
from benchmark.predictions import (
    FILE,
    IDENTITY,
    JOURNAL,
    Prediction,
    Run,
    append_rows,
    cases_sha256,
    most_probable,
    questions_sha256,
    read_journal,
    start_journal,
    write_run,
)
from benchmark.prompts import question_text
from benchmark.scorer import Scorer
from mgll.files import sha256
from mgll.formats import FormatError

#: A blank image has the mean colour of CLIP's normalisation, so that a tower sees zeros; one size, since sizes tell sources.
BLANK_COLOUR, BLANK_SIZE = (123, 117, 104), (336, 336)

#: How far a kept probability may be from a second scoring before a run starts anew: other code or precision, not rounding.
TOLERANCE = 1e-3


def score_cases(
    cases: Sequence[Case],
    scorer: Scorer,
    out: Path,
    batch_size: int = 8,
    blind: bool = False,
    header: dict[str, Any] | None = None,
) -> Run:
    """Score cases into `out/predictions.jsonl`, going on where a killed run of the same model, cases and questions was.

    Rows of anything else are set aside in `predictions.old-N.jsonl` with a message on standard error.

    Args:
        cases: what to ask; their images must be readable and be the ones that were asked about.
        scorer: who is asked.
        out: output directory.
        batch_size: questions a call; a resumed run keeps whole batches only, so it ends in the same bytes.
        blind: show a blank image instead of the case's.
        header: further entries of the file's header, e.g. package versions.

    Raises:
        ImageError: naming case and file where an image is missing, damaged or not the one that was asked about.
    """
    header = {
        "model": scorer.name,
        "model_sha256": scorer.fingerprint,
        "cases_sha256": cases_sha256(cases),
        "questions_sha256": questions_sha256(cases),
        "blind": blind,
        "rotations": 1,
        **(header or {}),
    }
    rows = _kept_rows(out, header, cases, scorer, batch_size)
    if len(rows) < len(cases):
        rows = rows[: len(rows) // batch_size * batch_size]
        with start_journal(out / JOURNAL, header, rows) as journal:
            for batch in _batches(cases, len(rows), batch_size):
                scored = _score(batch, scorer, blind)
                append_rows(journal, scored)
                rows += scored
    run = Run(header, tuple(rows))
    write_run(out / FILE, run)
    (out / JOURNAL).unlink(missing_ok=True)
    return run


def open_case_image(case: Case) -> Image.Image:
    """The image of a case as upright RGB.

    Raises:
        ImageError: naming the case, if the image is missing, damaged or has changed since the case was made.
    """
    from mgll.preprocessing import ImageError, open_image

    try:
        image = open_image(case.image)
    except ImageError as error:
        raise ImageError(f"case {case.id}: {error}") from None
    if sha256(case.image) != case.image_sha256:
        raise ImageError(f"case {case.id}: {case.image} is not the image that the case was made from (SHA-256 differs)")
    return image


def _score(cases: Sequence[Case], scorer: Scorer, blind: bool) -> list[Prediction]:
    images = [Image.new("RGB", BLANK_SIZE, BLANK_COLOUR) if blind else open_case_image(case) for case in cases]
    scores = scorer.score(images, [question_text(case.question, case.options) for case in cases])
    return [
        Prediction(
            case=case.id,
            rotation=0,
            log_probs=score.log_probs,
            text=score.text,
            chosen=most_probable(score.log_probs),
            answer=case.answer,
            code=case.code,
            group=case.group,
            source=case.source,
            prompt_sha256=hashlib.sha256(score.prompt.encode()).hexdigest(),
        )
        for case, score in zip(cases, scores, strict=True)
    ]


def _batches(cases: Sequence[Case], start: int, size: int) -> Iterator[Sequence[Case]]:
    with tqdm(total=len(cases), initial=start, unit="case", desc="scoring", disable=None) as bar:
        for first in range(start, len(cases), size):
            yield cases[first : first + size]
            bar.update(len(cases[first : first + size]))


def _kept_rows(
    out: Path, header: dict[str, Any], cases: Sequence[Case], scorer: Scorer, batch_size: int
) -> list[Prediction]:
    for path in (out / FILE, out / JOURNAL):
        if not path.exists():
            continue
        try:
            found = read_journal(path)
            reason = _what_changed(found, header, cases, scorer, batch_size)
        except FormatError as error:
            found, reason = None, str(error)
        if found is not None and not reason:
            if found.predictions:
                print(f"{path}: {len(found.predictions)} of {len(cases)} cases are scored, going on", file=sys.stderr)
            return list(found.predictions)
        aside = _set_aside(path)
        print(f"{path}: {reason}; starting anew, the old rows are in {aside.name}", file=sys.stderr)
    return []


def _what_changed(found: Run, header: dict[str, Any], cases: Sequence[Case], scorer: Scorer, batch_size: int) -> str:
    names = [key.removesuffix("_sha256") for key in IDENTITY if found.header[key] != header[key]]
    if names:
        return f"made with other {' and '.join(names)}"
    rows = found.predictions
    if [row.case for row in rows] != [case.id for case in cases[: len(rows)]]:
        return "its rows are not those of the first cases"
    if not rows:
        return ""
    # No hash knows the code between file and probability (prompt template, preprocessing, precision): the first rows do.
    pairs = list(zip(_score(cases[:batch_size], scorer, found.header["blind"]), rows, strict=False))
    if any(again.prompt_sha256 != row.prompt_sha256 for again, row in pairs):
        return "the host now asks with another prompt"
    apart = max(
        abs(math.exp(a) - math.exp(b))
        for again, row in pairs
        for a, b in zip(again.log_probs, row.log_probs, strict=True)
    )
    return f"the first cases now score differently (by up to {apart:.2g})" if apart > TOLERANCE else ""


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"predictions.old-{number}.jsonl")).exists():
        number += 1
    path.rename(aside)
    return aside
