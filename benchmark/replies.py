"""Which option a reply names, if it clearly names one."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.prompts import LETTERS


@dataclass(frozen=True)
class Reply:
    """What was found in a reply: the option's index as asked, or None, and why."""

    choice: int | None
    reason: str


def parse_reply(text: str, options: Sequence[str]) -> Reply:
    """The option that a reply names: a bare letter, or the text of one option."""
    said = text.strip().rstrip(".").lower()
    if said and said.upper() in LETTERS and len(said) == 1:
        return Reply(LETTERS.index(said.upper()), "letter")
    lowered = [option.lower() for option in options]
    return Reply(lowered.index(said), "option text") if said in lowered else Reply(None, "no option named")
