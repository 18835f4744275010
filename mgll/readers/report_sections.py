"""Findings, impression and addenda of a radiology report in free text.

A report is cut at its headings. Those that say what the report is about (indication, technique, comparison and the like) begin
parts that are left out. Any other heading in capitals, such as `LUNGS:` or `PA AND LATERAL VIEWS OF THE CHEST:`, belongs to the
part in which it stands, and keeps its words; where it stands in no part that is kept, it begins the findings.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

#: Parts that are kept, in the order in which they are returned.
PARTS = ("findings", "impression", "addendum")
_WANTED = (
    ("findings", re.compile(r"\bfindings?\b")),
    ("impression", re.compile(r"\b(impressions?|conclusions?|opinion|summary)\b")),
    ("addendum", re.compile(r"\baddend(um|a)\b")),
)
#: An impression that is not this report's: of whoever asked for it, or of another reading.
_OF_ANOTHER = re.compile(
    r"(clinical|admi\w+|referr\w+|working|ed|er|emergency|pre ?op\w*|provisional|preliminary|prelim|prior|previous|wet)\b"
)
_ABOUT = re.compile(
    r"((type|date|time|number|reason|indications?) (of|for) |(the|brief|relevant|pertinent|other|additional|patient|requested) )*"
    r"(exams?|examinations?|stud(y|ies)|procedures?|indications?|histor(y|ies)|reasons?|comparisons?|techniques?|contrast|dose"
    r"|notifications?|recommendations?|accession|dictat\w+|transcri\w+|attending|radiologists?|physicians?|residents?|interpreted"
    r"|signed|patient|(underlying )?medical condition|question\w*|name|mrn|date|time|priority|diagnosis codes?|icd|cpt)\b"
)
#: A heading: capitals and a colon at the start of a line or sentence; one of those that are known, in any case; or a banner. The
#: colon of a time of day ends no heading.
_HEADING = re.compile(
    r"(?:^[ \t]*|(?<=[.?!]) +)"
    r"(?:(?P<capitals>[A-Z][A-Z0-9 \t,/&()'#_\-]+?)[ \t]*(?:(?<!\d):|:(?!\d))"
    r"|(?P<known>(?i:clinical (?:history|information|indication|impression)|findings?(?:(?:/| and | & )impressions?)?"
    r"|impressions?|conclusions?|addendum"
    r"|(?:reason for )?exam(?:ination)?|indication|history|comparisons?|technique|notification|recommendations?))[ \t]*:"
    r"|(?P<banner>(?:FINAL|PRELIMINARY|INTERIM)[ \t]+(?:REPORT|ADDENDUM)|ADDENDUM|WET READ)\b(?![ \t]*:)"
    r"|(?P<line>FINDINGS?|IMPRESSIONS?|CONCLUSIONS?)[ \t]*$)",
    re.MULTILINE,
)


def findings_and_impression(report: str) -> tuple[str, ...]:
    """The findings, the impression and the addenda of a report, as far as it has them, with white space collapsed.

    Where no heading begins the findings, they are the last paragraph without a heading before the impression, if there is one
    (`guessed_findings`). Parts that repeat each other are returned once.
    """
    parts = report_parts(report)
    if guess := guessed_findings(report, parts):
        parts["findings"] = guess
    return tuple(dict.fromkeys(parts[part] for part in PARTS if part in parts))


def report_parts(report: str) -> dict[str, str]:
    """Part -> its text, of those of `PARTS` that stand under a heading; a part that stands there twice is joined."""
    parts: dict[str, list[str]] = {}
    current: str | None = None
    for kind, written, body in _pieces(report):
        if kind == "other":
            current = current or "findings"
            body = f"{written} {body}" if body else ""
        else:
            current = kind if kind in PARTS else None
        if current and body:
            parts.setdefault(current, []).append(body)
    return {part: " ".join(bodies) for part, bodies in parts.items()}


def guessed_findings(report: str, parts: Mapping[str, str]) -> str:
    """The paragraph that is taken for the findings of a report whose `parts` have none; empty where there is no such paragraph."""
    if "findings" in parts:
        return ""
    kept = (heading.start() for heading in _HEADING.finditer(report) if _kind(heading) in PARTS)
    before = report[: next(kept, len(report))]
    # A paragraph in capitals is a title, unless the whole report is in capitals.
    paragraphs = [part for part in re.split(r"\n[ \t]*\n", before) if any(letter.isalpha() for letter in part)]
    unheaded = [
        " ".join(part.split())
        for above, part in pairwise(["", *paragraphs])
        if not _HEADING.match(part) and (not part.isupper() or report.isupper()) and not above.rstrip().endswith(":")
    ]
    return unheaded[-1] if unheaded else ""


def _pieces(report: str) -> Iterator[tuple[str, str, str]]:
    """Of each heading its kind, how it is written, and the text below it with white space collapsed."""
    headings = list(_HEADING.finditer(report))
    ends = [*(heading.start() for heading in headings[1:]), len(report)]
    for heading, end in zip(headings, ends, strict=False):
        yield _kind(heading), " ".join(heading[0].split()), " ".join(report[heading.end() : end].split())


def _kind(heading: re.Match[str]) -> str:
    """One of `PARTS`, `about` for what is left out, or `other`."""
    words = " ".join(re.sub(r"[^a-z]+", " ", heading[heading.lastgroup or 0].lower()).split())
    if _OF_ANOTHER.match(words):
        return "about"
    for part, pattern in _WANTED:
        if pattern.search(words):
            return part
    # A banner, FINAL REPORT, stands above the title; REPORT: and the like stand above words of the report.
    return "about" if heading["banner"] or _ABOUT.match(words) else "other"
