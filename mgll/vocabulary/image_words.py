"""Words that a changed image contradicts: sides, which a flip turns round, and colours, which jitter changes."""

import csv
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from mgll.vocabulary.diseases import diseases

Kind = Literal["side", "colour"]
#: Languages that are written without spaces, or with endings that Python's \w does not know: their words are found anywhere.
_UNSPACED = ("Chinese and Japanese", "Korean", "Arabic", "Hindi")


@dataclass(frozen=True)
class NamedWords:
    """Which texts name a side or a colour.

    Attributes:
        texts: number of different texts that do.
        of: number of different texts that were looked at.
        words: word -> number of texts that hold it.
        example: the first of these texts.
    """

    texts: int
    of: int
    words: Counter[str]
    example: str

    def __str__(self) -> str:
        words = ", ".join(f"{word!r} {texts}" for word, texts in self.words.most_common(5))
        example = self.example if len(self.example) <= 100 else self.example[:99] + "…"
        return f"{self.texts:,} of {self.of:,} different texts ({words}; such as {example!r})"


def texts_that_name(kind: Kind, texts: Iterable[str]) -> NamedWords:
    """Look for sides or colours in texts, each different one once.

    The names and explanations of the disease table are left out: they say the same of every image of a class, as the paper's do.
    """
    pattern, own = _pattern(kind), _own_texts()
    words: Counter[str] = Counter()
    named = looked_at = 0
    example = ""
    for text in dict.fromkeys(texts):
        looked_at += 1
        if text not in own and (found := {match.group().lower() for match in pattern.finditer(text)}):
            named += 1
            example = example or text
            words.update(found)
    return NamedWords(named, looked_at, words, example)


@cache
def _own_texts() -> frozenset[str]:
    return frozenset(text for disease in diseases().values() for text in (disease.name, disease.explanation))


@cache
def _pattern(kind: Kind) -> re.Pattern[str]:
    with (files("mgll.vocabulary") / "image_words.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == kind]
    anywhere = "|".join(row["pattern"] for row in rows if row["language"] in _UNSPACED)
    whole = "|".join(f"(?:{row['pattern']})" for row in rows if row["language"] not in _UNSPACED)
    # An underscore or a hyphen ends a word: left_eye, right-sided.
    return re.compile(rf"(?<![^\W_])(?:{whole})(?![^\W_])|{anywhere}", re.IGNORECASE)
