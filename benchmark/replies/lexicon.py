"""The words that a stated answer may be made of, by language, and text cut into them.

Each file of `words/` holds a language: under each role its words, between commas. A star ends a stem. Roles:

- `answer`, `right`, `final`, `choose`, `is`, `wouldbe`, `left` (it remains), `show`: what states an answer.
- `not`, `wrong`, `instead` (rather than): what denies one. `others`: the options but one.
- `link`, `sure`, `and`, `so`, `but`, `although`, `because`, `given`: what may stand between them.
- `article`, `indefinite` (of articles), `pronoun`: what may stand beside a lone option.
- `condition`: words that make a condition of the description that they begin ("with a larger cup").
- `picture`, `anatomy`: what descriptions of the image are about.
- `courtesy`: thanks and advice, in a sentence of their own.
- `danger`, and of it `suppose`: what no free text beside an answer may hold: doubt, conditions, what others say.
- `unread`: words that aren't understood though their parts are.
- `refusal`: what a reply without an answer excuses itself with.
"""

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

from benchmark.replies.text import LATIN, MARKS, OTHER, RIGHT, SYNONYM_MARKS, WRONG, spelled
from mgll.vocabulary.questions import LETTERS

#: Roles of words that deny an option, and of those that descriptions of the image are about.
DENYING = frozenset({"not", "wrong", "instead"})
EVIDENCE = frozenset({"picture", "anatomy"})
#: Roles that are looked for in free text, and aren't words of an answer.
_FREE_TEXT_ROLES = ("courtesy", "danger", "suppose", "refusal")
#: Characters of a script, and the languages written in it; the first script found in a text tells its languages.
_SCRIPTS = (
    ("\u3040-\u30ff", ("ja",)),
    ("\uac00-\ud7af", ("ko",)),
    ("\u4e00-\u9fff", ("zh", "ja")),
    ("\u0600-\u06ff", ("ar",)),
    ("\u0400-\u04ff", ("ru",)),
    ("\u0900-\u097f", ("hi",)),
)
_LATIN_LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "tr")
#: All languages that have a file of words.
LANGUAGES = tuple(dict.fromkeys((*_LATIN_LANGUAGES, *(name for _, names in _SCRIPTS for name in names))))
#: Written without spaces, or with particles joined to words.
_JOINED = ("zh", "ja", "ko")
_LETTER = re.compile(rf"(?<![{LATIN}'°/&-])[A-H](?![{LATIN}/-]|'(?!d.r\b))")
_SMALL_LETTER = re.compile(rf"(?<![{LATIN}'°/&.-])[a-d](?=\s?(?:[.:]|\Z)|\))")
_OPTION = re.compile(f"[{MARKS}{SYNONYM_MARKS}]")
_SYMBOL = re.compile(f"[{RIGHT}{WRONG}]")
#: "A" and "E" are words, too, where they begin a text ("A large cup", "A resposta"), and one of these or an unknown word follows.
_BEHIND_AN_ARTICLE = frozenset({"answer", "picture", "anatomy", "final", "choose"})
#: Behind an "A" that is an option though no word of an answer follows.
_BEHIND_A = (
    "may",
    "might",
    "could",
    "would",
    "seems",
    "looks",
    "was",
    "matches",
    "fits",
    "has",
    "shows",
    "does",
    "describes",
    "peut",
    "puede",
    "pode",
)
#: A small letter behind a word stands for an option only where one of these goes before it.
_BEFORE_A_SMALL_LETTER = frozenset({"answer", "is", "final", "choose", "right", "so"})
_UNKNOWN = re.compile(r"\d+(?:\.\d+)?\s?%?|[^\W\d_]+(?:['-][^\W\d_]+)*|[\s\S]")
#: Punctuation that says nothing within a clause.
_HARMLESS = frozenset("<>~.,:;!¡¿-()[]'\"=#·")


@dataclass(frozen=True)
class Token:
    """A word or phrase of a reply, or an option.

    Attributes:
        text: in lower case.
        roles: of its language's lexicon; none for words that aren't in it.
        option: 0 to 3, or `OTHER`; None where it isn't one.
        by_letter: whether a letter says it.
        place: where it begins and ends.
    """

    text: str
    roles: frozenset[str] = frozenset()
    option: int | None = None
    by_letter: bool = False
    place: tuple[int, int] = (0, 0)

    @property
    def known(self) -> bool:
        """Whether it is an option or a word of the lexicon."""
        return self.option is not None or bool(self.roles - {"condition"})


@dataclass(frozen=True)
class Lexicon:
    """A language's words.

    Attributes:
        joined: whether words aren't separated by spaces.
        roles: of every word, without spaces where words are joined; stems end in a star.
        words: for each character, what finds the longest word or stem that begins with it in lower-case text.
        free: for each role that is looked for in free text, what finds its words there.
    """

    joined: bool
    roles: dict[str, frozenset[str]]
    words: dict[str, re.Pattern[str]]
    free: dict[str, re.Pattern[str]]

    def match(self, text: str, place: int) -> re.Match[str] | None:
        """The longest word at a place of lower-case text."""
        pattern = self.words.get(text[place]) or self.words.get("")
        return pattern.match(text, place) if pattern else None

    def roles_of(self, word: str) -> frozenset[str]:
        """The roles of a word that `words` found."""
        word = re.sub(r"\s", "" if self.joined else " ", word)
        for key in (
            word,
            *(word[start:] for start in range(1, 5) if word[0] >= "؀"),
        ):  # an Arabic word without "and" and "the"
            if key in self.roles:
                return self.roles[key]
        return next(self.roles[stem] for end in range(len(word), 0, -1) if (stem := f"{word[:end]}*") in self.roles)


@lru_cache(maxsize=4096)
def cut(text: str, language: str) -> tuple[Token, ...]:
    """A piece of marked text as tokens of a language, without harmless punctuation."""
    lexicon, small = lexicon_of(language), lower(text)
    tokens: list[Token] = []
    place = 0
    while place < len(text):
        token, end = _token_at(text, small, place, lexicon)
        if token.by_letter and not _is_option(token, tokens, text, end, lexicon):
            word = lexicon.match(small, place)
            end = word.end() if word else end
            token = Token(small[place:end], lexicon.roles_of(word[0]) if word else frozenset())
        if token.text not in _HARMLESS and not token.text.isspace():
            tokens.append(replace(token, place=(place, end)))
        place = end
    return tuple(tokens)


def best_cut(text: str, languages: Iterable[str]) -> tuple[Token, ...]:
    """A piece of text as tokens of the language that knows most of it, the first of several."""
    own = languages_of(text)
    cuts = [cut(text, language) for language in (*languages, *own) if language in own]
    return min(cuts, key=lambda tokens: sum(not token.known for token in tokens))


@lru_cache(maxsize=1024)
def languages_of(text: str) -> tuple[str, ...]:
    """Languages in whose script a text is written, those first that know most of it."""
    own = next((languages for script, languages in _SCRIPTS if re.search(f"[{script}]", text)), _LATIN_LANGUAGES)
    if len(own) == 1:
        return own
    return tuple(sorted(own, key=lambda language: sum(not token.known for token in cut(text, language))))


@lru_cache(maxsize=4096)
def holds(role: str, text: str, language: str) -> bool:
    """Whether free text holds a word of `courtesy`, `danger`, `suppose` or `refusal`.

    Args:
        role: one of them.
        text: marked text.
        language: of the whole reply; looked in besides those that know most of this text.
    """
    own = languages_of(text)
    unknown = [sum(not token.known for token in cut(text, each)) for each in own]
    best = [each for each, count in zip(own, unknown, strict=True) if count == unknown[0] or each == language]
    return any(lexicon_of(each).free[role].search(lower(text)) for each in best)


@lru_cache
def lexicon_of(language: str) -> Lexicon:
    """The lexicon of a language, by its two letters."""
    table = tomllib.loads(files("benchmark.replies").joinpath("words", f"{language}.toml").read_text("utf-8"))
    joined = language in _JOINED
    listed = {role: [spelled(word.strip()) for word in words.split(",")] for role, words in table.items()}
    roles: dict[str, set[str]] = {}
    for role, words in listed.items():
        for word in words if role not in _FREE_TEXT_ROLES else ():
            roles.setdefault(word.replace(" ", "") if joined else word, set()).add(role)
    stating = [word for role, words in listed.items() if role not in _FREE_TEXT_ROLES for word in words]
    return Lexicon(
        joined=joined,
        roles={word: frozenset() if "unread" in its else frozenset(its) for word, its in roles.items()},
        words={first: _any_of(words, language) for first, words in _by_first(stating, language).items()},
        free={role: _any_of(listed[role], language) for role in _FREE_TEXT_ROLES},
    )


def lower(text: str) -> str:
    """Text in lower case and of the same length."""
    return "".join(small if len(small := char.lower()) == 1 else char for char in text)


def _by_first(words: Iterable[str], language: str) -> dict[str, list[str]]:
    """Words by their first character; Arabic ones under none, since others may be joined to them."""
    found: dict[str, list[str]] = {}
    for word in words:
        found.setdefault("" if language == "ar" else word[0], []).append(word)
    return found


def _any_of(words: Iterable[str], language: str) -> re.Pattern[str]:
    """Finds the longest of some words and stems."""
    joined = language in _JOINED
    letter = {"ar": r"[\u0600-\u06ff]", "hi": r"[\w\u0900-\u097f]"}.get(language, r"\w")
    patterns = []
    for word in sorted(set(words), key=lambda word: (-len(word), word)):
        stem = re.escape(word.removesuffix("*")).replace(r"\ ", r"\s?" if joined else r"\s")
        prefix = "(?:[وفبل]{0,2}(?:ال)?)?" if language == "ar" else ""
        before = "" if joined or not word[0].isalnum() else rf"(?<!{letter}){prefix}"
        behind = f"{letter}*" if word[-1] == "*" else "" if joined or word[-1] == "'" else f"(?!{letter})"
        patterns.append(before + stem + behind)
    return re.compile("|".join(patterns))


def _token_at(text: str, small: str, place: int, lexicon: Lexicon) -> tuple[Token, int]:
    """What stands at a place, be it a space, and where it ends."""
    if match := _OPTION.match(text, place):
        option = MARKS.find(match[0])
        return Token(match[0], option=SYNONYM_MARKS.find(match[0]) if option < 0 else option), match.end()
    if match := _LETTER.match(text, place) or _SMALL_LETTER.match(text, place):
        option = LETTERS.find(match[0].upper())
        return Token(match[0], option=OTHER if option < 0 else option, by_letter=True), match.end()
    if match := _SYMBOL.match(text, place):
        return Token(match[0], frozenset({"right" if match[0] == RIGHT else "wrong"})), match.end()
    if match := lexicon.match(small, place):
        return Token(match[0], lexicon.roles_of(match[0])), match.end()
    if lexicon.joined:
        return Token(small[place]), place + 1
    match = _UNKNOWN.match(small, place)
    assert match is not None  # it matches any character
    return Token(match[0]), match.end()


def _is_option(token: Token, before: Sequence[Token], text: str, end: int, lexicon: Lexicon) -> bool:
    """Whether a letter stands for an option, instead of being a word."""
    behind = text[end:].lstrip(" ")
    if token.text.isupper():
        if (
            before
            or token.text.lower() not in lexicon.roles
            or not behind
            or not (behind[0].isalpha() and text[end] == " ")
        ):
            return True
        following, end = _token_at(behind, lower(behind), 0, lexicon)
        if following.text in _BEHIND_A:
            return True
        verdict = "right" not in following.roles or not behind[end:].strip(" .,:;!")
        return following.known and verdict and not following.roles & _BEHIND_AN_ARTICLE
    if not before or behind[:1] == ")":
        return True
    if token.text == "a" and not (before[-1].roles & {"answer", "final"} or text[:end].rstrip("a ").endswith(":")):
        return False  # "The image shows a", "the answer is a"
    return bool(before[-1].roles & _BEFORE_A_SMALL_LETTER)
