"""A reply as sentences, and a sentence as parts that each say one thing, as far as punctuation and connectives tell."""

import re
from collections.abc import Iterator, Sequence

from benchmark.replies.lexicon import DENYING, EVIDENCE, Token, best_cut
from benchmark.replies.text import LATIN, MARKS, OTHER, SYNONYM_MARKS

_LETTER = rf"(?<![{LATIN}'°/&-])(?-i:[A-H]|[a-d](?=[.:)]))(?![{LATIN}/'-])"
_NAME = f"[{MARKS}{SYNONYM_MARKS}]"
OPTION = rf"(?:{_LETTER}(?:\s{_NAME})?|{_NAME}(?:\s{_LETTER})?)"
#: Numbers of lists and steps, which say nothing.
_NUMBER = re.compile(
    r"^\s*(?:(?:step|schritt|etape|paso|passo|passaggio|stap|krok|adim|шаг|단계|ステップ)?\s?\d{1,2}\s?[.:)]|第[一二三四五\d]步:?)\s",
    re.I | re.M,
)
_LETTER_AND_NAME = re.compile(
    rf"({_LETTER}|(?<![{LATIN}'°/&-])(?-i:[b-d])(?=\s{_NAME}))\s?[.:)\]=-]{{0,3}}\s?(?:(?:the|a|an)\s)?[(]?({_NAME})[)]?",
    re.I,
)
_NAME_AND_LETTER = re.compile(
    rf"({_NAME})\s?[(,-]\s?(?:option\s|answer\s|letter\s)?[(]?([A-H])[)]?(?=\s?(?:[.,;)\n]|\Z))"
)
_NAME_AND_NAME = re.compile(rf"({_NAME})\s?\(({_NAME})\)")
_ABBREVIATED = re.compile(rf"({_NAME})\s?\((?!NO)[A-Z]{{2,5}}\)")
_LISTED = re.compile(
    rf"(?<=[A-D{MARKS}{SYNONYM_MARKS}])[)]?\s?[,،、](?=\s?(?:(?:and|or|und|oder|et|ou|y|o|e|en|i|ve|и|или|و|和|或)\s?)?[(]?{OPTION})"
)
_END = re.compile(r"(?<=[!?])|\.(?!\d)|\n")
_CERTAIN = re.compile(
    r"\bconfidence(?: level| score)?\s?[:=]?\s?(?:very )?(?:high|[5-9]\d(?:\.\d+)?\s?%|100\s?%|0?\.[5-9]\d*|1(?:\.0+)?\b)",
    re.I,
)
_SOFT = re.compile(r"\s-\s|[()\[\]]|:")
#: Ends of verbs that close a clause where languages join them.
_CLOSING = ("ではなく", "じゃなく", "でなく", "아니라", "고", "며", "면", "므로", "ので", "と")


def sentences(text: str) -> Iterator[str]:
    """The sentences of marked text, a letter and its name beside each other, without commas in lists of options."""
    text = _CERTAIN.sub(" ", text)
    text = _NUMBER.sub("", text)
    text = _LETTER_AND_NAME.sub(lambda match: f"{match[1].upper()} {match[2]}", text)
    text = _NAME_AND_NAME.sub(r"\1 \2", text)
    text = _ABBREVIATED.sub(r"\1", text)
    text = _NAME_AND_LETTER.sub(r"\1 \2", text)
    text = _LISTED.sub(" ", text)
    text = re.sub(r"([:,]|\s-)\s?\n", r"\1 ", text)
    for sentence in _END.split(text):
        if re.search(rf"\w|{_NAME}", sentence):
            yield sentence.strip()


def parts_of(sentence: str, languages: Sequence[str]) -> Iterator[tuple[str, list[Token]]]:
    """Pieces of a sentence between punctuation, and the tokens of each part of them between connectives."""
    for stretch in re.split("[,;]", sentence):
        for piece in _pieces(stretch, languages):
            for part in _parts(best_cut(piece, languages)):
                if part:
                    yield piece, part


def _pieces(stretch: str, languages: Sequence[str]) -> Iterator[str]:
    """A stretch as a whole where all of it is known, else cut at dashes, brackets, and colons that follow what is known.

    Dashes and brackets between options cut it anyway.
    """
    for soft in _SOFT.finditer(stretch):
        if soft[0] != ":" and re.search(OPTION, stretch[: soft.start()]) and re.search(OPTION, stretch[soft.end() :]):
            yield from _pieces(stretch[: soft.start()], languages)
            yield from _pieces(stretch[soft.end() :], languages)
            return
    tokens = best_cut(stretch, languages)
    if all(token.known for token in tokens) or all(token.option in (None, OTHER) for token in tokens):
        yield stretch
        return
    start = 0
    for soft in _SOFT.finditer(stretch):
        left = best_cut(stretch[start : soft.start()], languages)
        if soft[0] == ":" and not all(token.known for token in best_cut(stretch[start : soft.end()], languages)):
            continue
        if left:
            yield stretch[start : soft.start()]
        start = soft.end()
    yield stretch[start:]


def _parts(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Tokens cut before connectives, and between verdicts on several options."""
    part: list[Token] = []
    symbols_first = bool(tokens) and tokens[0].text in "✓✗"
    for number, token in enumerate(tokens):
        starts = token.roles & {"so", "but", "instead", "because", "although"} and any(
            other.option is not None or not other.known or other.roles & EVIDENCE for other in part
        )
        starts = starts or bool(token.roles & {"is", "left", "choose", "right"} and _denies_first(part))
        judged = token.option is not None and _verdict(part) and _verdict(list(tokens[number:]))
        if judged and "and" in part[-1].roles:
            part.pop()
        if (starts or (judged and not symbols_first) or (symbols_first and token.text in "✓✗")) and part:
            yield part
            part = []
        part.append(token)
        if token.roles & {"not", "wrong", "is", "right"} and token.text.endswith(_CLOSING):
            yield part
            part = []
    yield part


def _denies_first(part: Sequence[Token]) -> bool:
    """Whether a part is "instead of" and options, and ends there."""
    return bool(part) and "instead" in part[0].roles and any(token.option is not None for token in part)


def _verdict(tokens: Sequence[Token]) -> bool:
    """Whether a verdict follows an option, and none goes before it."""
    place = next((number for number, token in enumerate(tokens) if token.option is not None), len(tokens))
    return not any(token.roles & DENYING for token in tokens[:place]) and any(
        token.roles & {"right", "wrong", "not"} and "and" not in token.roles for token in tokens[place + 1 :]
    )
