"""Findings and impression of a radiology report in free text."""

import re

#: A line that begins with capitals and a colon, or one of the wanted headings in any case.
_HEADING = re.compile(
    r"^[ \t]*([A-Z][A-Z0-9 ,/&()\-]{2,}|(?i:findings?|impressions?|conclusions?))[ \t]*:", re.MULTILINE
)
_WANTED = (
    ("findings", re.compile(r"finding", re.IGNORECASE)),
    ("impression", re.compile(r"impression|conclusion", re.IGNORECASE)),
)


def findings_and_impression(report: str) -> tuple[str, ...]:
    """The sections "findings" and "impression" of a report, as far as it has them, with white space collapsed.

    A report with neither heading usually ends in a paragraph without a heading; that paragraph is returned then. Sections that
    repeat each other are returned once.
    """
    headings = list(_HEADING.finditer(report))
    starts = [*(heading.start() for heading in headings[1:]), len(report)]
    bodies: dict[str, str] = {}
    for heading, end in zip(headings, starts, strict=False):
        body = " ".join(report[heading.end() : end].split())
        for name, pattern in _WANTED:
            if body and pattern.search(heading[1]):
                bodies[name] = f"{bodies[name]} {body}" if name in bodies else body
                break
    if not bodies and (body := _last_paragraph(report)):
        return (body,)
    return tuple(dict.fromkeys(bodies[name] for name, _ in _WANTED if name in bodies))


def _last_paragraph(report: str) -> str:
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n[ \t]*\n", report)]
    unheaded = [part for part in paragraphs if part and not _HEADING.match(part) and not part.isupper()]
    return unheaded[-1] if unheaded else ""
