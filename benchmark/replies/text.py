r"""A reply as plain text: its first turn without markup, every disease name in it replaced by a one-character mark.

Marks make names and letters equally easy to find: after `marked`, "The answer is **b) optic disk oedema**" reads
"The answer is b) \ue001" where "Optic Disc Edema" is option B.
"""

import html
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from benchmark.replies.reasoning import without_reasoning
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS
from mgll.vocabulary.questions import QUESTIONS

#: `MARKS[i]` stands for the name of option i; the last one for a disease, or an answer, that is none of the four.
MARKS = "\ue000\ue001\ue002\ue003\ue004"
OTHER = 4
#: `SYNONYM_MARKS[i]` stands for another name of option i ("BRVO"), which can contradict a letter but never answers.
SYNONYM_MARKS = "\ue005\ue006\ue007\ue008"

#: Ticks and crosses of all kinds, which judge the option beside them.
RIGHT, WRONG = "✓", "✗"

_PUNCTUATION = str.maketrans(
    {
        **dict.fromkeys("‘’ʼ`´", "'"),
        **dict.fromkeys("“”„«»", '"'),
        **dict.fromkeys("‐‑‒–−", "-"),
        **dict.fromkeys("❌✗✘✖🚫❎×☒", f" {WRONG} "),
        **dict.fromkeys("✓✔✅☑○◯√", f" {RIGHT} "),
        **{"【": "(", "】": ")", "「": '"', "」": '"', "『": '"', "』": '"'},
        **dict.fromkeys("—→⇒➡", " - "),
        **{"،": ",", "؟": "?", "؛": ";", "。": ". ", "।": ".", "、": ","},
    }
)
_TOKEN = r"<\|[^|<>\n]{1,40}\|>|</s>|<eos>|<(?:end|start)_of_turn>|\[/?INST\]|<end_of_utterance>"
_LEAD = re.compile(
    rf"\A(?:\s|<s>|<bos>|<pad>|<unk>|{_TOKEN}|#{{1,6}}|(?:assistant|gpt|ai|model|bot)(?=\s?[:\n]|<\|):?)++",
    re.I,
)
_NEXT_TURN = re.compile(
    rf"{_TOKEN}|\n#{{0,6}}\s?\**(?:question|q|user|human|instruction|assistant|problem|example|input)\s?\d{{0,3}}\**\s?:"
    rf"|\b(?-i:USER|HUMAN|ASSISTANT|Question)\s?:|#{{2,6}}\s?(?:human|user|question|instruction)\b"
    rf"|\n(?:{'|'.join(map(re.escape, QUESTIONS))})",
    re.I,
)
_MARKUP: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.I | re.M), replacement)
    for pattern, replacement in (
        (r"<s>|<bos>|<pad>|<unk>|<image>", " "),
        (r"^\s?'''\w{0,12}$", ""),
        (r"~~[^~\n]{0,200}~~", " "),
        (r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathsf|bf)\s?\{([^{}]{0,200})\}", r"\1"),
        (r"\\f?boxed\s?\{([^{}]{0,200})\}", r"\nfinal answer: \1\n"),
        (r"</(?:final[_ ]?)?answer>", "\n"),
        (r"<(?:final[_ ]?)?answer>", "\nfinal answer: "),
        (r"<b>([^<>]{0,200})</b>", r"\1"),
        (r"</?(?:p|br|strong|em|i|u|span|div|code|li|ul|ol|center|h[1-6]|response|output|think|thinking)\s?/?>", " "),
        (r"<([a-e])>", r"\1"),
        (r"(?<!\w)'([^'\n]{1,60})'(?!\w)", r"\1"),
        (r"[*`\"{}$|\\_]", " "),
        (r"([!?.,:;=\-#'()\[\]])\1+", r"\1"),
        (r"[^\S\n]+", " "),
        (r"^ ?(?:[#>•·◦▪+\-] ?)+", ""),
        (r" ?\n[ \n]*", "\n"),
    )
)
#: British and American spellings are one spelling.
_SPELLINGS = tuple(
    (re.compile(pattern, re.I), replacement)
    for pattern, replacement in (
        (r"œ", "oe"),
        (r"oedema", "edema"),
        (r"haem", "hem"),
        (r"ischaem", "ischem"),
        (r"\bdisk\b", "disc"),
        (r"\bfibre", "fiber"),
        (r"isation\b", "ization"),
    )
)
_LATIN_WORD = re.compile(r"[A-Za-z\u00c0-\u024f]{2,}")
#: After a name: it means something else ("a health professional", "a glaucoma specialist").
_MORE = r"\s(?:care|professional|provider|worker|specialist|expert|service|condition|issue|problem|status)"
_NONE_OF_THE_FOUR = (
    "Non-Proliferative Diabetic Retinopathy",
    *(f"{count} of {the}" for count in ("none", "all", "neither", "both") for the in ("the above", "these", "them")),
    *(f"{count} of the {what}" for count in ("none", "all") for what in ("options", "given options", "choices")),
)
_LEAST_PLURAL = 5  # letters of a word that may take or lose its plural: "Yes" must not become "Ye"
#: What a name must not touch: "non-", letters, digits. Chinese and Japanese write without spaces and may.
LATIN = "A-Za-z0-9\u00c0-\u024f"


def plain(text: str) -> str:
    """The first turn of a reply, without reasoning in tags, special tokens and markup, with single spaces and newlines.

    Compatibility forms are normalised (full-width and mathematical letters), accents are dropped from words (not from
    single letters: `à` is a word and must not become `a`), and boxed or tagged answers become "final answer: ...".
    """
    text = unicodedata.normalize("NFKC", html.unescape(text)).translate(_PUNCTUATION)
    text = re.sub(r" ?\n[ \n]*", "\n", re.sub(r"[^\S\n]+", " ", text))
    text = _visible(_first_turn(text))
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return spelled(text).strip()


def marked(text: str, options: Sequence[str], table: ClassTable = FUNDUS) -> str:
    """Replace the names of options, and of other known diseases, in plain text by their marks; the longest name wins.

    Case, hyphens, plural, accents, and British or American spelling make no difference. The known diseases are those of the
    class table.
    """
    keys = [_key(spelled(option)) for option in options]
    index = {key: number if keys.count(key) == 1 else OTHER for number, key in enumerate(keys)}
    synonym = {_key(spelled(name)): index[key] for key in keys for name in _synonyms(table).get(key, ())}

    def mark(match: re.Match[str]) -> str:
        key = _key(match[0])
        if key not in index and synonym.get(key, OTHER) != OTHER:
            return SYNONYM_MARKS[synonym[key]]
        return MARKS[index.get(key, OTHER)]

    unknown = (spelled(option) for option in options if _key(spelled(option)) not in _known_names(table))
    return _names(frozenset(unknown), table).sub(mark, text)


def _first_turn(text: str) -> str:
    text = _LEAD.sub("", without_reasoning(text))
    for turn in _NEXT_TURN.finditer(text):
        if text[: turn.start()].strip():
            return text[: turn.start()]
    return text


def _visible(text: str) -> str:
    """Drop what can't be read (controls, private use) and turn pictures into spaces."""
    blank = {"So": " ", "Sk": " ", "Cc": "", "Cf": "", "Co": "", "Cs": "", "Cn": ""}
    kinds = {
        char: char if char in RIGHT + WRONG else blank.get(unicodedata.category(char), char)
        for char in set(text) - {"\n"}
    }
    return "".join(kinds.get(char, char) for char in text)


@lru_cache(maxsize=1024)  # the same options come back in case after case
def spelled(text: str) -> str:
    """Words without accents, in one of the two English spellings."""

    def unaccented(word: re.Match[str]) -> str:
        return "".join(char for char in unicodedata.normalize("NFD", word[0]) if not unicodedata.combining(char))

    text = _LATIN_WORD.sub(unaccented, text)
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    return text


def _key(name: str) -> str:
    """What all spellings of a name share."""
    key = re.sub(r"[\s-]", "", name.lower())
    if len(key) < _LEAST_PLURAL:
        return key
    return key[:-3] + "y" if key.endswith("ies") else key.removesuffix("s")


@lru_cache
def _synonyms(table: ClassTable) -> dict[str, tuple[str, ...]]:
    return {_key(spelled(disease.name)): disease.synonyms for disease in table.classes.values()}


@lru_cache
def _known_names(table: ClassTable) -> dict[str, str]:
    """Disease names, synonyms of several words, abbreviations of three letters and more, and `none of the above`, by key.

    Without "No Glaucoma" and the like, which are denials where they aren't options.
    """
    names = set(_NONE_OF_THE_FOUR)
    for code, disease in table.classes.items():
        names |= {disease.name, *(name for name in disease.synonyms if " " in name)}
        names |= {code} if code.isupper() and len(code) > 2 else set()
    return {_key(spelled(name)): spelled(name) for name in names if not name.lower().startswith("no ")}


@lru_cache(maxsize=256)
def _names(more: frozenset[str], table: ClassTable) -> re.Pattern[str]:
    names = {name for name in (*_known_names(table).values(), *more) if len(name.strip()) > 1}  # one letter is a letter
    patterns = [_pattern(name) for name in sorted(names, key=lambda name: (-len(name), name))]
    return re.compile(rf"(?<![{LATIN}'])(?<![{LATIN}]-)(?:{'|'.join(patterns)})(?!-?[{LATIN}]|'|{_MORE})", re.I)


def _pattern(name: str) -> str:
    words = [r"[\s-]?".join(map(re.escape, word.split("-"))) for word in name.split()]
    if len(last := words[-1]) >= _LEAST_PLURAL:
        words[-1] = last[:-1] + "(?:y|ies)" if last[-1] in "yY" else last.removesuffix("s") + "s?"
    return r"[\s-]".join(words)
