"""Text from data in Markdown: names, replies and sources stay text, whatever they hold."""

import html
import re
from collections.abc import Sequence

#: What ends a line. Narrow spaces, which `str.split` would take too, stay.
_BREAKS = re.compile(r"[\r\n\t\v\f\x1c-\x1f\x85\u2028\u2029]+")


def markdown_text(text: str) -> str:
    """A text for a sentence or a cell: on one line, no HTML, no link, image or code begins in it, and no cell ends.

    `<` stays where no tag can begin, as in `p < 0.001`.
    """
    line = re.sub(r"&(?=[#A-Za-z])", "&amp;", _BREAKS.sub(" ", text))
    line = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", line)
    return re.sub(r"([`|\[\]*\\])", r"\\\1", line)


def markdown_code(text: str) -> str:
    """A text as code: between back quotes where that is plain, else as an HTML element in which nothing is read as a mark."""
    line = _BREAKS.sub(" ", text).strip()
    if not re.search(r"[<&`|]", line):
        return f"`{line}`"
    marks = re.sub(r"[`|*_~\[\]\\]", lambda mark: f"&#{ord(mark[0])};", html.escape(line, quote=False))
    return f"<code>{marks}</code>"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table whose cells may hold any text."""
    lines = [[markdown_text(str(cell)) for cell in line] for line in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
