r"""Which option a text reply names, if it clearly names one. Nothing is ever guessed.

A reply answers where it is a letter or the name of an option, begins with one, or states one ("The correct option is **C**",
"Diagnosis: glaucoma"). What it says to the contrary is heeded: negations, second answers, hedges, a letter beside another option's
name. Anything that is not clearly one option is no answer, which counts as wrong: a missed answer costs less than an invented one.

Decisions worth knowing:
- The reply ends where the model begins another turn ("\n\nQuestion: ..."); of reasoning in any dialect only what follows counts.
- An answer that is doubted, reported as another's, or taken back is none, in whatever of ten languages.
- Only Latin letters are letters (full-width ones included). Cyrillic `В` is the third letter of its alphabet and looks like the
  Latin second: such look-alikes name nothing. Nor do numbers ("2").
- Names count as they are asked: case, hyphens, plural, accents and British or American spelling may differ; synonyms,
  abbreviations and subtypes name nothing.
- "Final answer" (and a boxed or tagged one) overrides what was stated before it; no other statement does.

`tests/benchmark/replies.jsonl` has about a thousand replies and what they are taken to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark.replies import doubts, phrases, retractions
from benchmark.replies.claims import (
    Claim,
    affirmed,
    affirmed_beside,
    find_claims,
    find_descriptions,
    hedged,
    others_behind,
)
from benchmark.replies.paraphrases import contradicts
from benchmark.replies.settled import settled
from benchmark.replies.text import MARKS, OTHER, marked, plain
from mgll.vocabulary.questions import LETTERS

#: How an option was found, or why none was.
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
    """The option that a reply chooses, or the reason why it chooses none.

    Attributes:
        choice: index of the option as asked, 0 to 3; None where the reply does not clearly name one.
        reason: how it was found, or why not.
    """

    choice: int | None
    reason: Reason


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
    text = phrases.RULED_OUT.sub(" ", settled(text)).strip()
    claims = find_claims(text)
    only_rivals = all(claim.strength == "rival" for claim in claims)
    return _by_descriptions(text) if only_rivals else _by_claims(text, claims, options)


def _by_claims(text: str, claims: list[Claim], options: Sequence[str]) -> Reply:
    """The option on which all claims agree, unless something speaks against it."""
    if finals := [claim.start for claim in claims if claim.strength == "final"]:
        claims = [claim for claim in claims if claim.start >= finals[0]]
    rivals = {claim.option for claim in claims if claim.strength == "rival"}
    claims = [claim for claim in claims if claim.strength != "rival"]
    only_said = all(claim.strength == "said" for claim in claims)
    refused = doubts.REFUSED.search(text)
    if only_said and refused and refused.start() < min(claim.start for claim in claims):
        return Reply(None, "refusal")
    first, last = min(claim.end for claim in claims), max(claim.end for claim in claims)
    if retractions.RETRACTED.search(text, first) or retractions.DISOWNED.search(text, last):
        return Reply(None, "hedged")
    chosen = {claim.option for claim in claims}
    lettered = [claim for claim in claims if claim.by_letter]
    if any(claim.name not in (None, claim.option) for claim in lettered):
        return Reply(None, "letter and text disagree")
    if len(chosen) > 1:
        letter_against_name = len(chosen) == 2 and len({claim.option for claim in lettered}) == 1
        return Reply(None, "letter and text disagree" if letter_against_name else "two answers")
    option = chosen.pop()
    if option == OTHER:
        return Reply(None, "no option named")
    if rivals - {option}:
        return Reply(None, "two answers")
    if others_behind(text[last:], option):
        return Reply(None, "two answers")
    if any(contradicts(text[claim.end :], option, options) for claim in lettered if claim.name is None):
        return Reply(None, "letter and text disagree")
    against = _against(text, option, claims, only_said)
    return Reply(None, against) if against else Reply(option, "letter" if lettered else "option text")


def _against(text: str, option: int, claims: list[Claim], only_said: bool) -> Reason | None:
    """Why the option of all claims is no answer all the same, if so."""
    by_letter = any(claim.by_letter for claim in claims)
    named = affirmed(text)
    if by_letter:
        beside = [affirmed_beside(text, claim) for claim in claims if claim.name is None]
        if option not in named:
            beside.append({claim.option for claim in find_descriptions(text)})
        if any(len(names - {OTHER}) == 1 and option not in names for names in beside):
            return "letter and text disagree"
    if MARKS[option] in text and option not in named:  # its name is only denied
        return "letter and text disagree" if by_letter else "hedged"
    if only_said and hedged(text, option):
        return "hedged"
    if only_said and not by_letter and named - {option, OTHER}:
        return "two answers"
    return None


def _by_descriptions(text: str) -> Reply:
    """Without a claim, a description answers if it names one disease only; else the reason why there is no answer."""
    if doubts.REFUSED.search(text):
        return Reply(None, "refusal")
    letters = phrases.MENTIONED.search(text)
    described = {claim.option for claim in find_descriptions(text)}
    if len(described) == 1 and affirmed(text) <= described and OTHER not in described and not letters:
        option = described.pop()
        if not (hedged(text, option) or doubts.UNSURE.search(text) or retractions.RETRACTED.search(text)):
            return Reply(option, "option text")
    if not letters and not any(mark in text for mark in MARKS[:OTHER]):
        return Reply(None, "no option named")
    return Reply(None, "hedged" if "?" in text or doubts.HEDGED.search(text) else "no answer stated")
