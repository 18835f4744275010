"""Which option a text reply names, if it clearly names one. Nothing is ever guessed.

A reply answers where it is a letter or the name of an option, or where a clause states one in words that are all known ("The
correct option is **C**", "Diagnosis: glaucoma") and all else in it is understood, too: it describes the image, rules other
options out, or is a courtesy. Anything else is no answer, which counts as wrong: a missed answer costs less than an invented one.

Decisions worth knowing:
- The reply ends where the model begins another turn ("Question: ..." on a line of its own); of reasoning in any dialect only
  what follows counts, and of that no more than `LONGEST` characters.
- What is not understood counts against an answer: behind it anything; before it, in its sentence, anything but a rival option that
  a "but" or "although" sets aside; in a sentence of its own, unless more sentences describe the image.
- Only Latin letters are letters (full-width ones included). Cyrillic `В` is the third letter of its alphabet and looks like the
  Latin second: such look-alikes name nothing. Nor do numbers ("2").
- Names count as they are asked: case, hyphens, plural, accents and British or American spelling may differ; synonyms,
  abbreviations and subtypes name nothing, but can contradict a letter.
- "Final answer" (and a boxed or tagged one) overrides what was stated before it; no other statement does.

`tests/benchmark/replies.jsonl` has about a thousand replies and what they are taken to say.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from benchmark.replies.clauses import Clause, Kind, clauses_of
from benchmark.replies.lexicon import holds, languages_of
from benchmark.replies.paraphrases import likest
from benchmark.replies.text import LATIN, MARKS, OTHER, marked, plain
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS
from mgll.vocabulary.questions import INSTRUCTION, LETTERS, QUESTIONS

#: How an option was found, or why none was.
Reason = Literal[
    "letter",
    "option text",
    "empty",
    "too long",
    "refusal",
    "hedged",
    "two answers",
    "letter and text disagree",
    "no answer stated",
    "no option named",
]
#: Characters of a reply, without reasoning and further turns, beyond which it is not read.
LONGEST = 8_000
#: The question, its four options in order, and its instruction, as asked.
_RESTATED = re.compile(
    "|".join(map(re.escape, (*QUESTIONS, INSTRUCTION)))
    + "|"
    + r"[\s,;.]*".join(
        rf"[(\[]?{letter}\s?[.:,)\](=-]{{0,3}}\s?{mark}" for letter, mark in zip(LETTERS, MARKS, strict=False)
    ),
    re.IGNORECASE,
)
#: "A: The image shows ..." is as likely an answer to a "Q:" as option A.
_ANSWERS_A_Q = re.compile(rf"a\s?:\s?[^\s{MARKS}]", re.IGNORECASE)
_YES_OR_NO = re.compile(r"a\s?:\s?(?:yes|no)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Reply:
    """The option that a reply chooses, or the reason why it chooses none.

    Attributes:
        choice: index of the option as asked, 0 to 3; None where the reply does not clearly name one.
        reason: how it was found, or why not.
    """

    choice: int | None
    reason: Reason


def parse_reply(text: str, options: Sequence[str], table: ClassTable = FUNDUS) -> Reply:
    """Find the option that a reply names.

    Args:
        text: the reply as generated, special tokens and all.
        options: the four option texts in the order in which they were lettered.
        table: the classes, of which names beside the four count as none of them.

    Raises:
        ValueError: if there are not exactly four options.
    """
    if len(options) != len(LETTERS):
        raise ValueError(f"a question has {len(LETTERS)} options, found {len(options)}: {list(options)}")
    text = plain(text)
    if not text:
        return Reply(None, "empty")
    if len(text) > LONGEST:
        return Reply(None, "too long")
    text = _RESTATED.sub("\n", marked(text, options, table)).strip()
    clauses = _with_paraphrases(clauses_of(text), options)
    statements = _statements(clauses)
    if not statements:
        return Reply(None, _why_not(text, clauses))
    first = statements[0]
    chosen = frozenset().union(*(clauses[place].options for place in statements))
    if len(chosen) > 1:
        letters = {clauses[place].by_letter for place in statements}
        return Reply(None, "letter and text disagree" if len(letters) == 2 else "two answers")
    (option,) = chosen
    if option == OTHER:
        return Reply(None, "no option named")
    if against := _against(clauses, first, option, languages_of(text)[0]):
        return Reply(None, against)
    if option == 0 and _may_answer_a_q(text, clauses):
        return Reply(None, "no answer stated")
    return Reply(option, "letter" if any(clauses[place].by_letter for place in statements) else "option text")


def _may_answer_a_q(text: str, clauses: Sequence[Clause]) -> bool:
    """Whether "A:" begins what may be the answer to a "Q:": a description of the image, or yes or no."""
    if not _ANSWERS_A_Q.match(text) or len(clauses) == 1:
        return False
    judged = frozenset().union(*(clause.options for clause in clauses))
    return clauses[1].kind == "describes" or bool(_YES_OR_NO.match(text) and len(judged) < len(LETTERS) - 1)


def _statements(clauses: Sequence[Clause]) -> list[int]:
    """Places of the clauses that give the answer: the final ones if there are any, else those that state it, else show it."""
    stated = [place for place, clause in enumerate(clauses) if clause.kind == "states"]
    if final := [place for place in stated if clauses[place].final]:
        return [place for place in stated if place >= final[0]]
    return stated or [place for place, clause in enumerate(clauses) if clause.kind == "shows"]


def _against(clauses: Sequence[Clause], first: int, option: int, language: str) -> Reason | None:
    """Why an option that a reply states is not its answer, if so."""
    statement = clauses[first]
    kinds = [clause.kind for clause in clauses[:first]]
    talks_of_the_image = statement.firm and kinds.count("describes") > kinds.count("strange")
    for place, clause in enumerate(clauses):
        others = clause.options - {option}
        if clause.kind == "denies" and not (place < first and place and clauses[place - 1].kind == "asks"):  # "A? No."
            return "hedged"
        if clause.kind == "rules out" and option in clause.options:
            return "hedged"
        if place < first:
            if clause.kind == "shows" and not others:
                continue
            if clause.kind == "shows" and statement.by_letter and not statement.by_name:
                return "letter and text disagree"
            if clause.kind in ("mentions", "asks", "shows") and (not statement.firm or clause.supposes):
                return "two answers" if others else "hedged"
            if (
                clause.kind == "strange"
                and not clause.exclaims
                and (not talks_of_the_image or holds("danger", clause.text, language))
            ):
                return "hedged"
        elif clause.kind in ("asks", "strange") or (clause.kind == "describes" and not clause.plain_description):
            return "hedged"
        elif clause.kind in ("mentions", "shows") and others:
            only_named = statement.by_letter and clause.by_name and not clause.by_letter
            return "letter and text disagree" if only_named else "two answers"
        elif clause.kind == "mentions" and not clause.plain_description:
            return "hedged"
    return None


def _with_paraphrases(clauses: Sequence[Clause], options: Sequence[str]) -> list[Clause]:
    """Clauses in which other words for an option, right behind a letter, mention the option that they mean."""
    found = list(clauses)
    for place, clause in enumerate(clauses):
        if clause.kind in ("states", "mentions") and clause.by_letter and not clause.by_name:
            before, *rest = re.split(rf"(?<![{LATIN}])[A-Da-d](?![{LATIN}])", clause.piece)
            behind = rest[-1] if rest else ""
            meant = likest(behind, options)
            if meant and meant != clause.options:
                found[place] = replace(clause, kind="mentions", options=clause.options | meant)
            elif meant and not before.strip(" (") and behind.lstrip()[:1] in set(".:)(-"):
                found[place] = replace(clause, kind="states")
    for place, (clause, behind) in enumerate(pairwise(clauses), start=1):
        if clause.kind != "states" or not clause.by_letter or clause.by_name or behind.options:
            continue
        if (meant := likest(behind.piece, options)) and behind.piece != clause.piece:
            kind: Kind = "silent" if meant == clause.options else "mentions"
            for later, other in enumerate(clauses[place:], start=place):
                if other.piece != behind.piece:
                    break
                found[later] = replace(other, kind=kind, options=meant, by_name=True)
    return found


def _why_not(text: str, clauses: Sequence[Clause]) -> Reason:
    """Why a reply without a statement has none."""
    language = languages_of(text)[0]
    if holds("refusal", text, language):
        return "refusal"
    named = frozenset().union(*(clause.options for clause in clauses)) - {OTHER}
    if not named:
        return "no option named"
    if any(clause.by_letter and clause.by_name and len(clause.options - {OTHER}) > 1 for clause in clauses):
        return "letter and text disagree"
    affirmed = [clause for clause in clauses if clause.kind in ("mentions", "asks")]
    if any(clause.kind == "asks" or holds("danger", clause.text, language) for clause in affirmed):
        return "hedged"
    return "two answers" if any(len(clause.options - {OTHER}) > 1 for clause in affirmed) else "no answer stated"
