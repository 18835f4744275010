"""From a manifest to cases and their data card: draw the options, check and hash the images asked about, word the questions."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal, Unpack

import numpy as np
from tqdm import tqdm

from benchmark.cases.case import Case, write_cases
from benchmark.cases.data_card import data_card
from benchmark.cases.overlap import OverlapCheck, OverlapError, overlap_header
from benchmark.options.draw import Design, Drawing, Drawn, draw
from mgll.files import sha256, write_text
from mgll.formats import FormatError
from mgll.images.files import image_sha256
from mgll.images.looks import Look, Looks
from mgll.images.preprocessing import ImageError, open_image
from mgll.manifest.classed_row import CONTEXT
from mgll.manifest.contradictions import contradictions_of, count_contradictions
from mgll.manifest.records import Record, Split, read_manifest
from mgll.vocabulary.diseases import FUNDUS
from mgll.vocabulary.questions import QUESTIONS


def build_cases(
    manifest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    split: Split | None = "test",
    check: OverlapCheck | None = None,
    contradictory: Literal["drop", "keep"] = "drop",
    **design: Unpack[Design],
) -> tuple[list[Case], Drawing]:
    """Draw cases from one split of a manifest (None: all), check and hash their images, write the file and its data card.

    The arguments after `contradictory` are those of `benchmark.options.draw`. The same arguments and images give the same bytes.
    The card has the file's name with the ending `.md`.

    Images of `val` and `test` are compared with the manifest's own split `train` and with every pretraining of `check`. By its
    rule those that were trained on are refused (also where `check` is None), dropped before anything is drawn, or kept; header and
    card count them. Images whose labels contradict each other (Health beside a disease, two grades) are dropped too and counted,
    unless `contradictory` keeps them.

    Raises:
        OverlapError: if images asked about were trained on and the rule is `refuse`.
        FormatError: if the manifest is wrong, holds an unknown label, or an image can't be used (nothing is written then).
        ValueError: if the labels don't allow such questions.
    """
    records: Sequence[Record] = read_manifest(manifest, split)
    for record in records:
        if unknown := [label for label in record.labels if label not in record.table.classes]:
            raise FormatError(
                manifest,
                None,
                f"field labels of {record.image}: no such class code: {', '.join(unknown)}; these images have the classes of"
                f" {record.table.name}. Other fields bring their own table: --classes of the reader",
            )
    counts = count_contradictions(records) if contradictory == "drop" else Counter[str]()
    if counts:
        records = [record for record in records if not contradictions_of(record)]
    check = check or OverlapCheck()
    checked, compared = list(records), check.compare(manifest, split, records) if check.rule == "drop" else []
    seen = {image for one in compared for image in one.found}
    records = [record for record in checked if record.image not in seen]
    sets, sources = [record.labels for record in records], [record.source for record in records]
    drawing = draw(sets, sources=sources, table=records[0].table if records else FUNDUS, **design)
    drawing = replace(drawing, contradictory=dict(counts.most_common()))
    kind, seed = design.get("kind", "balanced"), design.get("seed", 0)
    asked = [records[index] for index in sorted({drawn.image for drawn in drawing.questions})]
    if check.rule != "drop":
        checked, compared = asked, check.compare(manifest, split, asked)
    hashes = _hash_images(manifest, asked, check.looks)
    if check.rule == "refuse" and any(one.found for one in compared):
        raise OverlapError(compared, len(asked), manifest)
    # The wording must say nothing about the answer: its own stream of random numbers.
    wordings = np.random.default_rng([seed, 1]).permutation(np.arange(len(drawing.questions)) % len(QUESTIONS))
    cases = [
        _case(f"{split or 'all'}-{kind}-{seed}-{number:05d}", records[drawn.image], hashes, drawn, QUESTIONS[wording])
        for number, (drawn, wording) in enumerate(zip(drawing.questions, wordings, strict=True), start=1)
    ]
    header = {
        "options": kind,
        "distractors": "clean" if kind == "balanced" or design.get("clean", True) else "paper",
        "names": design.get("names", "classes"),
        "split": split or "all",
        "count": len(cases),
        "seed": seed,
        "manifest_sha256": sha256(manifest),
        "equal": design.get("equal", False),
        "within_sources": bool(drawing.sources),
        "table14": design.get("table14", False),
        "shares": {code: round(share, 6) for code, share in drawing.shares.items()},
        "left_out": dict(drawing.left_out),
        "short": {code: list(counts) for code, counts in drawing.short.items()},
        "sources": dict(drawing.sources),
        "sources_left_out": dict(drawing.sources_left_out),
        "ambiguous": drawing.ambiguous,
        "overlap": overlap_header(check.rule, len({record.image for record in checked}), compared),
    } | ({"contradictory": dict(drawing.contradictory)} if counts else {})
    write_cases(out, cases, **header)
    write_text(Path(out).with_suffix(".md"), data_card(out, cases, header, asked))
    return cases, drawing


def _case(name: str, record: Record, hashes: Mapping[str, str], drawn: Drawn, question: str) -> Case:
    first, second, third, fourth = (record.table.classes[code].name for code in drawn.codes)
    entries = {
        "id": name,
        "image": record.image,
        "image_sha256": hashes[record.image],
        "group": record.group,
        "source": record.source,
        "question": question,
        "options": (first, second, third, fourth),
        "option_codes": drawn.codes,
        "answer": drawn.answer,
        "code": drawn.codes[drawn.answer],
        "labels": record.labels,
    }
    return Case.model_validate(entries, context={CONTEXT: record.table}).of(record.table)


def _hash_images(manifest: str | os.PathLike[str], records: Sequence[Record], looks: Looks) -> dict[str, str]:
    def hash_one(image: str) -> str | Exception:
        if known := looks.get(image):
            return known.file if isinstance(known, Look) else known
        try:
            open_image(image).close()
            return image_sha256(image)
        except ImageError as error:
            return error

    images = [record.image for record in records]
    with ThreadPoolExecutor() as threads:  # decoding releases the interpreter lock
        progress = tqdm(threads.map(hash_one, images), "checking images", len(images), leave=False, disable=None)
        results = dict(zip(images, progress, strict=True))
    errors = [str(result) for result in results.values() if isinstance(result, Exception)]
    if errors:
        raise FormatError(manifest, None, f"{len(errors)} images can't be used: " + "; ".join(errors[:5]))
    return {image: result for image, result in results.items() if isinstance(result, str)}
