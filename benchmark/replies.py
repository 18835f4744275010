"""Which option a text reply names, if it clearly names one. Nothing is ever guessed.

A reply answers where it is a letter or the name of an option, begins with one, or states one ("The correct option is **C**",
"Diagnosis: glaucoma"). What it says to the contrary is heeded: negations, second answers, hedges, a letter beside another option's
name. Anything that is not clearly one option is no answer, which counts as wrong; a missed answer costs less than an invented one.

Decisions worth knowing:
- The reply ends where the model begins another turn ("\\n\\nQuestion: ..."); of a `<think>` block only what follows counts.
- Only Latin letters are letters (full-width ones included). Cyrillic `В` is the third letter of its alphabet and looks like the
  Latin second: such look-alikes name nothing. Nor do numbers ("2").
- Names are taken as they are asked: case, hyphens, plural, accents and British or American spelling may differ; synonyms, abbreviations
  and subtypes name nothing.
- "Final answer" (and a boxed or tagged one) overrides what was stated before it, no other statement does.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark import reply_phrases as phrases
from benchmark.prompts import LETTERS
from benchmark.reply_text import MARKS, OTHER, marked, plain

Reason = Literal[
    "letter",
    "option text",
    "empty",
    "refusal",
    "hedged",
    "two answers",
    "letter and text disagree",
    "no answer stated",
    "no option named",
]


@dataclass(frozen=True)
class Reply:
    """What was found in a reply.

    Attributes:
        choice: index of the option as asked, 0 to 3; None where the reply does not clearly name one.
        reason: how it was found, or why not.
    """

    choice: int | None
    reason: Reason


@dataclass(frozen=True)
class _Claim:
    """A place where an option is given as the answer.

    Attributes:
        start, end: of the phrase in the marked text.
        option: 0 to 3, or `OTHER`.
        name: what the name beside a letter says; the option itself where only a name stands.
        strength: what kind of phrase.
        by_letter: whether a letter says it.
    """

    start: int
    end: int
    option: int
    name: int | None
    strength: Literal["final", "stated", "bare", "shown"]
    by_letter: bool


def parse_reply(text: str, options: Sequence[str]) -> Reply:
    """Find the option that a reply names.

    Args:
        text: the reply as generated, special tokens and all.
        options: the four option texts in the order in which they were lettered.

    Raises:
        ValueError: if there are not exactly four options.
    """
    if len(options) != len(LETTERS):
        raise ValueError(f"a question has {len(LETTERS)} options, found {len(options)}: {list(options)}")
    text = plain(text)
    if not text:
        return Reply(None, "empty")
    text = phrases.RESTATED.sub("\n", marked(text, options)).strip()
    claims = [*_statements(text), *_bare(text)]
    shown = list(_shown(text))
    if not claims:
        return _decide_shown(text, shown)
    return _decide(text, claims, shown)


def _decide(text: str, claims: list[_Claim], shown: list[_Claim]) -> Reply:
    """The option on which all claims agree, unless something speaks against it."""
    if finals := [claim.start for claim in claims if claim.strength == "final"]:
        claims = [claim for claim in claims if claim.start >= finals[0]]
    first, last = min(claim.start for claim in claims), max(claim.end for claim in claims)
    only_bare = all(claim.strength == "bare" for claim in claims)
    refused = phrases.REFUSED.search(text)
    if only_bare and refused and refused.start() < first:
        return Reply(None, "refusal")
    if phrases.RETRACTED.search(text, last):
        return Reply(None, "hedged")
    chosen = {claim.option for claim in claims}
    by_letter = {claim.option for claim in claims if claim.by_letter}
    if any(claim.name not in (None, claim.option) for claim in claims if claim.by_letter):
        return Reply(None, "letter and text disagree")
    if len(chosen) > 1:
        return Reply(None, "letter and text disagree" if len(by_letter) == 1 and len(chosen) == 2 else "two answers")
    option = chosen.pop()
    if option == OTHER:
        return Reply(None, "no option named")
    if by_letter and len(other := {claim.option for claim in shown} - {OTHER}) == 1 and option not in other:
        return Reply(None, "letter and text disagree")
    if only_bare and _hedged(text, option):
        return Reply(None, "hedged")
    if only_bare and not by_letter and _affirmed(text) - {option, OTHER}:
        return Reply(None, "two answers")
    return Reply(option, "letter" if by_letter else "option text")


def _decide_shown(text: str, shown: list[_Claim]) -> Reply:
    """Without a claim, a description answers if it names one disease only; else the reason why there is no answer."""
    if phrases.REFUSED.search(text):
        return Reply(None, "refusal")
    named = _affirmed(text)
    letters = phrases.MENTIONED.search(text)
    options = {claim.option for claim in shown}
    if len(options) == 1 and named <= options and OTHER not in options and not letters:
        option = options.pop()
        if not (_hedged(text, option) or phrases.UNSURE.search(text) or phrases.RETRACTED.search(text)):
            return Reply(option, "option text")
    if not letters and not any(mark in text for mark in MARKS[:OTHER]):
        return Reply(None, "no option named")
    return Reply(None, "hedged" if "?" in text or phrases.HEDGED.search(text) else "no answer stated")


def _statements(text: str) -> Iterator[_Claim]:
    """Claims by phrases that state an answer, and what is listed beside them."""
    for pattern in phrases.STATEMENTS:
        for match in pattern.finditer(text):
            gap = match.groupdict().get("gap") or ""
            if re.search(rf"(?<!\w)[A-H](?!\w)|[{MARKS}]", gap) or phrases.NOT_STATED.search(gap):
                continue
            if not _doubted(text, match):
                yield from _with_others(text, _claim(match, "final" if match.groupdict().get("final") else "stated"))


def _bare(text: str) -> Iterator[_Claim]:
    """Claims by an option that begins the reply, and by lines that hold nothing but options."""
    lines = text.split("\n")
    enumerated = {match["letter"].upper() for match in phrases.ENUMERATED.finditer(text)}
    only_options = [bool(phrases.LINE.match(line)) for line in lines]
    beginning = phrases.BEGINNING.match(text)
    if beginning and (only_options[0] or len(enumerated) < 2) and not _doubted(text, beginning):
        yield from _with_others(text, _claim(beginning, "bare"))
    start = 0
    for number, line in enumerate(lines):
        if only_options[number]:
            atoms = [_claim(atom, "bare", start) for atom in phrases.ATOM.finditer(line)]
            after_sentence = number == len(lines) - 1 and lines[number - 1].endswith((".", "!"))
            if only_options[0] or after_sentence or any(atom.by_letter for atom in atoms):
                yield from atoms
        start += len(line) + 1


def _shown(text: str) -> Iterator[_Claim]:
    """What the reply says that the image shows."""
    for match in phrases.SHOWN.finditer(text):
        if not phrases.NOT_STATED.search(_clause_before(text, match.start())):
            yield _claim(match, "shown")


def _with_others(text: str, claim: _Claim) -> Iterator[_Claim]:
    """A claim and those that are listed after it ("B or C")."""
    yield claim
    end = claim.end
    for _ in LETTERS:
        if not (match := phrases.ANOTHER.match(text, end)):
            break
        yield _claim(match, claim.strength)
        end = match.end()


def _claim(match: re.Match[str], strength: Literal["final", "stated", "bare", "shown"], offset: int = 0) -> _Claim:
    groups = match.groupdict()
    letter, mark = groups.get("letter") or groups.get("after"), groups.get("text") or groups.get("name")
    name = MARKS.index(mark) if mark else None
    option = name if letter is None else LETTERS.find(letter.upper())
    assert option is not None  # every phrase holds a letter or a name
    start = match.start() + len(match[0]) - len(match[0].lstrip(" \n.,;:!?("))
    return _Claim(start + offset, match.end() + offset, OTHER if option < 0 else option, name, strength, bool(letter))


def _doubted(text: str, match: re.Match[str]) -> bool:
    """Whether the sentence around a claim denies it, doubts it or asks."""
    claim = _claim(match, "stated")
    before = _clause_before(text, claim.start)
    sentence = re.split(r"[.!\n]", text[max(0, claim.start - 120) : claim.start])[-1]
    rest = re.match(r"[^.!?\n]{0,150}\??", text[claim.end :][:151])
    after = rest[0] if rest else ""
    return bool(
        phrases.NOT_STATED.search(before)
        or phrases.UNSURE.search(sentence)
        or phrases.UNSURE.search(after)
        or after.endswith("?")
        or _rejected(text, match)
    )


def _rejected(text: str, match: re.Match[str]) -> bool:
    """Whether what follows judges the option instead of explaining the choice ("A. Glaucoma is unlikely", "A: wrong")."""
    rest = text[match.end() :][:120]
    if match.groupdict().get("text"):
        return bool(phrases.REJECTED.search(re.split(r"[.,!?\n;]", rest)[0]))
    return bool(re.match(rf"[\s.:,)\]-]*(?:(?:this|it) is |is )?(?:{phrases.REJECTED.pattern})", rest, re.I))


def _clause_before(text: str, position: int) -> str:
    return re.split(r"[.,;:!?\n]|\b(?:but|however|so|therefore|thus)\b", text[max(0, position - 100) : position])[-1]


def _hedged(text: str, option: int) -> bool:
    """Whether a sentence with doubt in it names another option."""
    for sentence in re.split(r"[.!?\n;]", text):
        if phrases.HEDGED.search(sentence):
            letters = {match[0].upper()[-1] for match in phrases.MENTIONED.finditer(sentence)}
            names = {MARKS.index(mark) for mark in re.findall(f"[{MARKS[:OTHER]}]", sentence)}
            if (names | {LETTERS.find(letter) for letter in letters}) - {option}:
                return True
    return False


def _affirmed(text: str) -> set[int]:
    """Diseases that the reply names without denying them."""
    return {
        MARKS.index(match[0])
        for match in re.finditer(f"[{MARKS}]", text)
        if not phrases.DENIED.search(_clause_before(text, match.start())) and not phrases.DENIED_AFTER.match(text, match.end())
    }
