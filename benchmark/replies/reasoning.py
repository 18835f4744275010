"""A reply without the reasoning that a model puts before its answer, in the dialects that models mark it with."""

import re

_NAME = (
    r"(?:[a-z]{1,20}[:_])?(?:think(?:ing)?|thoughts?|reason(?:ing|s)?|reflect(?:ion)?|scratch[_ ]?pad"
    r"|analysis|analy[sz]e|plan(?:ning)?"
    r"|cot|chain_of_thought|(?:inner_)?monologue|rationale|deliberat(?:e|ion)|details|critique|draft|brainstorm)"
)
_OPENED = re.compile(
    rf"(?:<\|?|\[|◁)\s?(?:(?:begin|start)_?(?:of_)?)?{_NAME}(?:\s[^<>\[\]\n]{{0,40}})?\s?(?:\|?>|\]|▷)"
    r"|<unused94>|<\|channel>\s?(?:thought|analysis)|\Athinking\.{3}|\Ahere(?: is|'s) my thought process:"
    r"|\A(?:thought|analysis)\s?\n|\Aanalysis(?-i:[A-Z][a-z' ])",
    re.I,
)
_CLOSED = re.compile(
    rf"(?:</\s?\|?|<\|/|\[/|◁/|(?:<\|?|\[|◁)\s?(?:/|end_?(?:of_)?)){_NAME}\s?(?:\|?>|\]|▷)"
    r"|<unused95>|<channel\|>|\.{3}\s?done thinking\.?|\bhere(?: is|'s) my response:|assistantfinal",
    re.I,
)
_CHANNEL = re.compile(r"<\|channel\|>\s?(\w*)[^<]{0,60}<\|message\|>", re.I)


def without_reasoning(text: str) -> str:
    """What follows the last block of reasoning; nothing where a block never ends, or no answer follows it."""
    if channels := list(_CHANNEL.finditer(text)):
        last = channels[-1]
        return text[last.end() :] if last[1].lower() == "final" else ""
    end = 0
    for closed in _CLOSED.finditer(text):
        end = closed.end()
    text = text[end:]
    opened = _OPENED.search(text.lstrip())
    return text.lstrip()[: opened.start()] if opened else text
