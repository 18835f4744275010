"""Where a reply gives an option as its answer, and what else it says about the options."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from benchmark.replies import doubts, hearsay, phrases
from benchmark.replies.text import MARKS, OTHER, SYNONYM_MARKS
from mgll.vocabulary.questions import LETTERS

#: How firmly an option is given: marked as final, stated to be the answer, only said, only described; or, a "rival", in words that
#: would be an answer if they went on differently, and can only contradict one.
Strength = Literal["final", "stated", "said", "shown", "rival"]


@dataclass(frozen=True)
class Claim:
    """A place where an option is given as the answer.

    Attributes:
        start: of the phrase in the marked text.
        end: of the phrase.
        option: 0 to 3, or `OTHER`.
        name: option whose name stands there, also beside a letter; None where none does.
        strength: what kind of phrase.
        by_letter: whether a letter says it.
    """

    start: int
    end: int
    option: int
    name: int | None
    strength: Strength
    by_letter: bool


def find_claims(text: str) -> list[Claim]:
    """All claims in marked text, except descriptions of the image."""
    stated = list(_statements(text))
    rivals = (match for pattern in phrases.RIVALS for match in pattern.finditer(text))
    return [
        *stated,
        *_bare(text, stated),
        *(_claim(rival, "rival") for rival in rivals if _fills_gap(rival) and not _doubted(text, rival)),
    ]


def find_descriptions(text: str) -> list[Claim]:
    """What the reply says that the image shows."""
    return [
        _claim(match, "shown")
        for match in phrases.SHOWN.finditer(text)
        if not doubts.NOT_STATED.search(_clause_before(text, match.start("name")))
        and not doubts.DENIED.search(re.split(r"[.!?\n]", text[match.end() :][:120])[0])
    ]


def affirmed(text: str, marks: str = MARKS) -> set[int]:
    """Options (and `OTHER`) that marked text names without denying them."""
    return {
        _named(match[0])
        for match in re.finditer(f"[{marks}]", text)
        if not doubts.DENIED.search(_clause_before(text, match.start()))
        and not doubts.DENIED_AFTER.match(text, match.end())
    }


def affirmed_beside(text: str, claim: Claim) -> set[int]:
    """Options whose names or synonyms stand beside a claim ("B. Signs of glaucoma")."""
    beside = re.split(r"[.,;:!?\n]", text[claim.end :][:120].lstrip(" .:,)]-\n"))[0]
    return affirmed(beside, MARKS + SYNONYM_MARKS)


def hedged(text: str, option: int) -> bool:
    """Whether a sentence with doubt in it names another option."""
    for sentence in re.split(r"[.!?\n;]", text):
        if doubts.HEDGED.search(sentence):
            letters = {
                LETTERS.find(match[0].upper()[-1])
                for match in phrases.MENTIONED.finditer(sentence)
                if not doubts.DENIED_AFTER.match(sentence, match.end())
            }
            if (letters | affirmed(sentence)) - {option, OTHER}:
                return True
    return False


def others_behind(text: str, option: int) -> bool:
    """Whether text behind the last claim mentions another option by letter without denying it."""
    return any(
        LETTERS.find(match[0].upper()[-1]) not in (option, -1)
        and not doubts.DENIED.search(_clause_before(text, match.start()))
        and not doubts.DENIED_AFTER.match(text, match.end())
        and not phrases.EXPLAINED.match(text, match.end())
        for match in phrases.MENTIONED.finditer(text)
    )


def _statements(text: str) -> Iterator[Claim]:
    """Claims by phrases that state an answer, and what is listed beside them."""
    for pattern in (*phrases.STATED, *phrases.SAID):
        for match in pattern.finditer(text):
            if _fills_gap(match) and not _doubted(text, match):
                final = match.groupdict().get("final")
                strength: Strength = "said" if pattern in phrases.SAID else "final" if final else "stated"
                yield from _with_others(text, _claim(match, strength))


def _fills_gap(match: re.Match[str]) -> bool:
    """Whether nothing between "answer" and "is" speaks of an option or to the contrary ("the answer A is wrong, B is ...")."""
    gap = match.groupdict().get("gap") or ""
    return not (re.search(rf"(?<!\w)[A-H](?!\w)|[{MARKS}]", gap) or doubts.NOT_STATED.search(gap) or _not_meant(gap))


def _bare(text: str, stated: Sequence[Claim]) -> Iterator[Claim]:
    """Claims by an option that begins the reply, and by lines that hold nothing but options."""
    lines = text.split("\n")
    only_options = [bool(phrases.LINE.match(line)) for line in lines]
    covered = {position for claim in stated for position in range(claim.start, claim.end + 1)}
    entries = [match for match in phrases.ENUMERATED.finditer(text) if match.start() not in covered]
    letters = [entry["letter"].upper() for entry in entries]
    if len(set(letters)) > 1 and not (only_options[0] and _answers_first(letters, entries[0].start())):
        # Options one by one: only a last line that goes beyond them is an answer.
        beyond = set(letters) >= set(LETTERS) or not phrases.ENUMERATED.match(lines[-1])
        only_options = [False] * (len(lines) - 1) + [only_options[-1] and beyond]
    elif not phrases.ANSWER_TO_Q.match(text):
        beginning = phrases.BEGINNING.match(text) or phrases.BRACKETED_BEGINNING.match(text)
        if beginning and not _doubted(text, beginning):
            yield from _with_others(text, _claim(beginning, "said"))
        elif (rival := phrases.RIVAL_BEGINNING.match(text)) and not _doubted(text, rival):
            yield _claim(rival, "rival")
    start = 0
    for number, line in enumerate(lines):
        if only_options[number]:
            atoms = [_claim(atom, "said", start) for atom in phrases.ATOM.finditer(line)]
            after_sentence = number == len(lines) - 1 and lines[number - 1].endswith((".", "!"))
            if start and _not_meant(_sentence_before(text, start)):
                atoms = []
            if only_options[0] or after_sentence or any(atom.by_letter for atom in atoms):
                yield from atoms
        start += len(line) + 1


def _answers_first(letters: Sequence[str], first: int) -> bool:
    """Whether an option stands before a discussion of others ("D", or "D." and then "A."), instead of being the first of a list."""
    return first > 1 or ord(letters[1]) != ord(letters[0]) + 1


def _with_others(text: str, claim: Claim) -> Iterator[Claim]:
    """A claim and those that are listed after it ("B or C")."""
    yield claim
    end = claim.end
    for _ in LETTERS:
        if not (match := phrases.ANOTHER.match(text, end)):
            break
        yield _claim(match, claim.strength)
        end = match.end()


def _claim(match: re.Match[str], strength: Strength, offset: int = 0) -> Claim:
    groups = match.groupdict()
    letter, mark = groups.get("letter") or groups.get("after"), groups.get("text") or groups.get("name")
    name = _named(mark) if mark else None
    option = name if letter is None else LETTERS.find(letter.upper())
    start = match.start() + len(match[0]) - len(match[0].lstrip(" \n.,;:!?("))
    option = OTHER if option is None or option < 0 else option
    return Claim(start + offset, match.end() + offset, option, name, strength, bool(letter))


def _doubted(text: str, match: re.Match[str]) -> bool:
    """Whether the sentence around a claim denies it, doubts it, asks, or judges the option instead of choosing it."""
    claim = _claim(match, "stated")
    sentence_before = _sentence_before(text, claim.start)
    rest = text[claim.end :][:150]
    end = re.search(r"[.!?\n]", rest)
    sentence_after = rest[: end.end()] if end else rest
    if match.groupdict().get("text"):  # "A. Glaucoma is unlikely"
        rejected = doubts.REJECTED.search(re.split(r"[.,!?\n;]", rest)[0])
    else:  # "A: wrong"
        rejected = doubts.REJECTED_AT_ONCE.match(rest)
    return bool(
        rejected
        or sentence_after.endswith("?")
        or _found(doubts.NOT_STATED, _clause_before(text, claim.start))
        or _not_meant(sentence_before)
        or (hearsay.HANGING.search(sentence_before) and not hearsay.MEANT.search(sentence_before))
        or _not_meant(sentence_after)
        or _found(hearsay.DENIED_LAST, re.split(r"[,;]", sentence_after)[0])
    )


def _sentence_before(text: str, position: int) -> str:
    """The sentence up to a place, over lines that end in a colon or comma, and without what a "but" contrasts."""
    before = re.split(r"[.!?]|(?<![:,])\n", text[max(0, position - 200) : position])[-1]
    return doubts.BUT.split(before)[-1]


@lru_cache(maxsize=1024)  # replies that repeat themselves ask the same thousands of times
def _not_meant(words: str) -> bool:
    """Whether words beside a statement make it a doubt, a condition, or what others say."""
    return bool(doubts.UNSURE.search(words) or hearsay.DOUBTED.search(words) or hearsay.HEARSAY.search(words))


@lru_cache(maxsize=1024)
def _found(pattern: re.Pattern[str], words: str) -> bool:
    return bool(pattern.search(words))


def _clause_before(text: str, position: int) -> str:
    before = text[max(0, position - 100) : position]
    return re.split(r"[.,;:!?\n]|\b(?:but|however|so|therefore|thus)\b", before)[-1]


def _named(mark: str) -> int:
    return MARKS.index(mark) if mark in MARKS else SYNONYM_MARKS.index(mark)
