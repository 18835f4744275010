"""The data card beside a file of cases: what is in it, where it comes from and how it was drawn, for whoever cites its numbers."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.cases.case import Case, position_test
from benchmark.cases.floor import describe_floors
from benchmark.cases.giveaways import giveaway_warning, right_when_offered
from benchmark.cases.markdown_text import markdown_table, markdown_text
from mgll.files import sha256
from mgll.manifest.records import Record, patient_of
from mgll.provenance import provenance
from mgll.vocabulary.diseases import FUNDUS
from mgll.vocabulary.questions import LETTERS, QUESTIONS

_MEANING = {
    "options": {
        "balanced": "Balanced options: each of the four is the answer equally often, so no strategy that does not see the image"
        " is right more often than 25 %.\n",
        "paper": "The paper's options: three distractors drawn uniformly from the names, so class frequency alone answers most"
        " questions.\n",
    },
    "distractors": {
        "clean": "Clean distractors: none is true, implied, or possibly true of any label of the image.\n",
        "paper": "The paper's distractors: any name but the answer's; some hold for the image too.\n",
    },
}


def data_card(
    path: str | os.PathLike[str], cases: Sequence[Case], header: Mapping[str, object], records: Sequence[Record]
) -> str:
    """Markdown about a written file of cases.

    Args:
        path: the file; its hash is named.
        cases: what is in it.
        header: its header: how the cases were drawn.
        records: the images that are asked about, for their licences.
    """
    images = len({case.image for case in cases})
    groups = len({patient_of(case.source, case.group) for case in cases})
    ambiguous = sum(bool(case.ambiguous) for case in cases)
    return (
        "\n\n".join(
            [
                f"# {markdown_text(Path(path).name)}: {len(cases):,} four-option questions about medical images",
                "**Research use only, not for diagnosis.**",
                f"{len(cases):,} cases on {images:,} images of {groups:,} patients or eyes. {ambiguous:,} cases have a distractor"
                f" that holds or may hold for the image by its labels and {_overlaps(cases)}. Labels are those"
                " of the sources; nobody read the images again.",
                "## Classes\n\n" + _classes(cases, header),
                "## Answer positions\n\n" + _positions(cases),
                "## What is scored without looking\n\n" + describe_floors(cases).replace("\n", "\n\n"),
                "## Whether the images were trained on\n\n" + _overlap(header),
                "## Sources\n\n" + _sources(cases, records),
                "## How it was drawn\n\n" + _making(path, header),
            ]
        )
        + "\n"
    )


def _overlaps(cases: Sequence[Case]) -> str:
    """What says which classes may hold together."""
    own = next((case.table for case in cases if case.table is not FUNDUS), None)
    return f"the class table {markdown_text(own.name)}" if own else "`mgll/vocabulary/disease_overlaps.csv`"


def _classes(cases: Sequence[Case], header: Mapping[str, object]) -> str:
    offered = right_when_offered(cases)
    known = (cases[0].table if cases else FUNDUS).classes
    codes = [code for code, disease in known.items() if disease.cases or code in offered]
    rows = []
    for code in [*codes, *(code for code in offered if code not in known)]:
        mine = [case for case in cases if case.code == code]
        disease = known.get(code)
        rows.append(
            (
                code,
                disease.name if disease else "",
                len(mine),
                disease.cases if disease and disease.cases else "-",
                len({case.image for case in mine}),
                len({patient_of(case.source, case.group) for case in mine}),
                offered[code][1] if code in offered else 0,
                f"{offered[code][0] / offered[code][1]:.0%}" if code in offered else "-",
            )
        )
    total = (
        "all",
        "",
        len(cases),
        sum(disease.cases for disease in known.values()) or "-",
        "",
        "",
        4 * len(cases),
        "25%",
    )
    table = markdown_table(
        ("code", "name", "cases", "Table 14", "images", "groups", "times offered", "right when offered"), [*rows, total]
    )
    short = header.get("short")
    if isinstance(short, Mapping) and short:
        missing = ", ".join(f"{code} {have} of {need}" for code, (have, need) in short.items())
        table += "\n\n" + markdown_text(f"Short of Table 14's counts: {missing}.")
    if warning := giveaway_warning(cases):
        table += f"\n\n**Warning**{markdown_text(warning.removeprefix('warning'))}."
    return table


def _positions(cases: Sequence[Case]) -> str:
    counts = Counter(case.answer for case in cases)
    shown = ", ".join(f"{letter} {counts[index]:,}" for index, letter in enumerate(LETTERS))
    wordings = Counter(case.question for case in cases)
    asked = "\n".join(
        f"- {wordings[question]:,} times: {markdown_text(question)}"
        for question in dict.fromkeys([*QUESTIONS, *wordings])
    )
    return f"{shown}; chi-square test against a quarter each: p = {position_test(cases):.3g}. Wordings:\n\n{asked}"


def _overlap(header: Mapping[str, object]) -> str:
    found = header.get("overlap")
    if not isinstance(found, Mapping) or not found["compared_with"]:
        training = header.get("split") == "train"
        return "Questions to learn: not compared with anything." if training else "Not compared with anything."
    rows = []
    for one in found["compared_with"]:
        kinds = ", ".join(f"{kind} {count}" for kind, count in one["found"].items()) or "none"
        rows.append((f"`{one['sha256'][:16]}`", f"{one['images']:,}", kinds, one["not_compared"] or "none"))
        if unknown := one.get("unknown"):
            rows[-1] = (*rows[-1][:3], f"{rows[-1][3]}; {unknown}")
    seen = found["found"]
    said = {
        "drop": f"{seen:,} of the split's {found['images']:,} images were trained on and left out.",
        "keep": f"**{seen:,} of the {found['images']:,} images asked about were trained on, and were kept.**",
    }.get(found["rule"] if seen else "", f"None of {found['images']:,} images was trained on, as far as was compared.")
    head = ("manifest or tower, by its SHA-256", "training images", "images asked about in it", "of it not compared")
    return f"{said} `docs/benchmark.md` says what is compared.\n\n{markdown_table(head, rows)}"


def _sources(cases: Sequence[Case], records: Sequence[Record]) -> str:
    rows = []
    for source in sorted({record.source for record in records}):
        mine = [record for record in records if record.source == source]
        licences = sorted({record.licence or "not stated" for record in mine})
        asked = sum(case.source == source for case in cases)
        rows.append(
            (source or "not stated", len(mine), len({record.patient for record in mine}), asked, "; ".join(licences))
        )
    return markdown_table(("source", "images", "groups", "cases", "licence as the source states it"), rows)


def _making(path: str | os.PathLike[str], header: Mapping[str, object]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in provenance().items())
    lines = [_MEANING[key].get(str(value), "") for key, value in header.items() if key in _MEANING]
    lines += [
        f"- {markdown_text(key)}: {markdown_text(str(value))}"
        for key, value in header.items()
        if not isinstance(value, Mapping)
    ]
    left_out = header.get("left_out")
    if isinstance(left_out, Mapping) and left_out:
        lines.append(
            "- left out: " + markdown_text("; ".join(f"{code} ({reason})" for code, reason in left_out.items()))
        )
    contradictory = header.get("contradictory")
    if isinstance(contradictory, Mapping):
        said = "; ".join(f"{pair} ({images} images)" for pair, images in contradictory.items())
        lines.append("- left out for contradictory labels: " + markdown_text(said))
    return "\n".join([*lines, f"- sha256 of this file of cases: {sha256(path)}", f"- made with: {versions}"])
