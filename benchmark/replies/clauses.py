"""A reply as clauses, and what each says of the options.

Nothing is taken for a statement because of a phrase in it: every word of the clause that states an answer must be known to the
lexicon, and so must be every clause of its sentence, except a description of the image that begins like one.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from benchmark.replies.lexicon import Token, best_cut, holds, languages_of
from benchmark.replies.text import LATIN, MARKS, OTHER, SYNONYM_MARKS

#: What a clause says of its options: `states` or `shows` (that the image does) one, `rules out` some, or `mentions` them in words
#: that aren't understood, or `asks`. Without options it is `silent`, `describes` the image, `denies` something, or is `strange`.
Kind = Literal["states", "shows", "rules out", "mentions", "asks", "silent", "describes", "denies", "strange"]

_LETTER = rf"(?<![{LATIN}'°/&-])(?-i:[A-H]|[a-d](?=[.:)]))(?![{LATIN}/'-])"
_NAME = f"[{MARKS}{SYNONYM_MARKS}]"
_OPTION = rf"(?:{_LETTER}(?:\s{_NAME})?|{_NAME}(?:\s{_LETTER})?)"
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
    rf"(?<=[A-D{MARKS}{SYNONYM_MARKS}])[)]?\s?[,،、](?=\s?(?:(?:and|or|und|oder|et|ou|y|o|e|en|i|ve|и|или|و|和|或)\s?)?[(]?{_OPTION})"
)
_END = re.compile(r"(?<=[!?])|\.(?!\d)|\n")
_CERTAIN = re.compile(
    r"\bconfidence(?: level| score)?\s?[:=]?\s?(?:very )?(?:high|[5-9]\d(?:\.\d+)?\s?%|100\s?%|0?\.[5-9]\d*|1(?:\.0+)?\b)",
    re.I,
)
_SOFT = re.compile(r"\s-\s|[()\[\]]|:")
#: Languages that say "answer B" for "the answer is B".
_WITHOUT_COPULA = ("ru", "ar", "tr", "hi")
#: Languages in which what makes a condition of a clause ends it.
_VERB_LAST = ("ja", "ko", "zh", "tr", "hi")
#: Ends of clauses that concede them.
_CONCEDING = ("が", "けど", "けれど", "지만", "는데")
#: Ends of verbs that close a clause where languages join them.
_CLOSING = ("ではなく", "じゃなく", "でなく", "아니라", "고", "며", "면", "므로", "ので", "と")
_STATING = frozenset({"right", "choose", "left", "final"})
_DENYING = frozenset({"not", "wrong", "instead"})
_EVIDENCE = frozenset({"picture", "anatomy"})


@dataclass(frozen=True)
class Clause:
    """A part of a sentence.

    Attributes:
        text: as it stands.
        piece: the piece between punctuation of which it is all or part.
        kind: what it says.
        options: 0 to 3, or `OTHER`.
        by_letter: whether a letter names an option in it.
        by_name: whether a name does.
        firm: of a statement: by words that state an answer, not by an option alone.
        final: of a statement: as the last word.
        plain_description: of the image, without anything that could deny or report.
        supposes: whether it holds a word of supposition.
    """

    text: str
    piece: str
    kind: Kind
    options: frozenset[int] = frozenset()
    by_letter: bool = False
    by_name: bool = False
    firm: bool = False
    final: bool = False
    plain_description: bool = False
    supposes: bool = False


def clauses_of(text: str) -> list[Clause]:
    """All clauses of marked text, in order."""
    languages = languages_of(text)
    return [clause for sentence in _sentences(text) for clause in _read(sentence, languages)]


def _sentences(text: str) -> Iterator[str]:
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


def _read(sentence: str, languages: Sequence[str]) -> Iterator[Clause]:
    """The clauses of a sentence."""
    if not re.search(rf"{_OPTION}", sentence) and holds("courtesy", sentence, languages[0]):
        yield Clause(sentence, sentence, "silent")
        return
    asks = sentence.endswith("?") or "¿" in sentence
    read = list(_in_order(sentence, languages, asks))
    mentions = any(clause.kind in ("mentions", "asks") for clause in read)
    for clause in read:  # "Some say, the answer is A": whoever says it has said it
        yield replace(clause, kind="mentions") if clause.kind == "strange" and mentions else clause


def _in_order(sentence: str, languages: Sequence[str], asks: bool) -> Iterator[Clause]:
    """The clauses of a sentence; what comes first decides how the rest is meant."""
    described = stated = reasoned = False
    hangs = ""  # the kind of a clause before that what follows may depend on
    spoken = False  # something stands before that a lone option would only be an addition to
    language = languages[0]
    for piece, tokens in _clauses(sentence, languages):
        clause = _judged(piece, tokens, language)
        if hangs == "mentions" and "but" in tokens[0].roles:
            hangs = ""
        verb_last = language in _VERB_LAST
        if hangs in ("", "describes") and tokens[0].roles & ({"so", "because"} if verb_last else {"so"}):
            reasoned = True
            hangs = "" if verb_last else hangs
        if clause.kind in ("states", "shows") and (
            hangs or (_has(tokens, "wouldbe") and described) or (not clause.firm and spoken and not reasoned)
        ):
            clause = replace(clause, kind="mentions")
        if clause.kind == "strange" and described and not hangs and not holds("danger", clause.text, language):
            clause = replace(clause, kind="describes", plain_description=True)
        if clause.kind == "describes":
            opens = _opens(tokens) or (described and any(token.roles & _EVIDENCE for token in tokens))
            opens = opens and (stated or not verb_last or tokens[-1].known)
            reasoned = reasoned or (opens and any(token.roles & {"because", "so", "given"} for token in tokens))
            explains = re.search(r":\s*\Z", sentence[: sentence.find(piece)])
            if stated and not opens and not described and not explains:
                clause = replace(clause, kind="strange")
            described = described or not ("given" in tokens[0].roles and all(token.known for token in tokens))
            hangs = hangs or ("" if opens else "describes")
        if asks and clause.kind != "silent":
            clause = replace(clause, kind="asks")
        if clause.kind in ("strange", "denies"):
            hangs = "strange"
        elif clause.kind == "mentions" and not ("although" in tokens[0].roles or clause.text.endswith(_CONCEDING)):
            hangs = "mentions"
        spoken = spoken or clause.kind not in ("silent", "rules out", "states")
        stated = stated or clause.kind in ("states", "shows")
        yield clause


def _clauses(sentence: str, languages: Sequence[str]) -> Iterator[tuple[str, list[Token]]]:
    """Pieces of a sentence between punctuation and connectives, with the tokens of each part."""
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
        if soft[0] != ":" and re.search(_OPTION, stretch[: soft.start()]) and re.search(_OPTION, stretch[soft.end() :]):
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
            other.option is not None or not other.known or other.roles & _EVIDENCE for other in part
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
    return not any(token.roles & _DENYING for token in tokens[:place]) and any(
        token.roles & {"right", "wrong", "not"} and "and" not in token.roles for token in tokens[place + 1 :]
    )


def _judged(piece: str, tokens: Sequence[Token], language: str) -> Clause:
    """A clause on its own; a disease that isn't asked for is part of what the image shows, where it isn't stated."""
    clause = _taken(piece, tokens, language)
    if clause.kind == "mentions" and clause.options == {OTHER} and not clause.by_letter:
        safe = not holds("danger", clause.text, language)
        return replace(
            clause, kind="describes" if safe else "strange", options=frozenset(), plain_description=_affirms(tokens)
        )
    return clause


def _taken(piece: str, tokens: Sequence[Token], language: str) -> Clause:
    """What a clause says of every option that it names."""
    roles = frozenset().union(*(token.roles for token in tokens))
    options = frozenset(token.option for token in tokens if token.option is not None)
    letters = frozenset(token.option for token in tokens if token.by_letter)
    named = frozenset(token.option for token in tokens if token.option is not None and not token.by_letter)
    text = piece[tokens[0].place[0] : tokens[-1].place[1]]
    clause = Clause(
        text, piece, "strange", options, bool(letters), bool(named), supposes=holds("suppose", text, language)
    )
    known = all(token.known for token in tokens)
    evident = bool(roles & _EVIDENCE) or OTHER in named - letters
    safe = evident and not holds("danger", text, language)
    if not options or (options == {OTHER} and not letters and not known):
        clause = replace(clause, options=frozenset())
        if known and roles & _DENYING and (not evident or roles & {"right", "choose", "answer"}):
            return replace(clause, kind="silent" if "others" in roles else "denies")
        if known:
            return replace(clause, kind="silent" if not evident else "describes", plain_description=_affirms(tokens))
        return replace(clause, kind="describes" if safe else "strange", plain_description=_affirms(tokens))
    if not known:
        return replace(clause, kind="mentions", plain_description=safe and bool(named))
    if roles & _DENYING:
        twice = {"not", "wrong"} <= roles or roles & {"left", "final"} or ("show" in roles and "choose" in roles)
        return replace(clause, kind="mentions" if twice else "rules out")
    if any(_joins(tokens[place : place + 2]) for place in range(len(tokens) - 1)):  # "the answer is A or"
        return replace(clause, kind="mentions")
    if "wouldbe" in roles and evident and not _has(tokens[:1], "given"):  # "with a pale disc it would be A"
        return replace(clause, kind="mentions")
    if len(options) > 1 or _asks(tokens) or (not letters and not any(token.text in MARKS for token in tokens)):
        return replace(clause, kind="mentions")
    if any(token.by_letter and before.roles & _EVIDENCE for before, token in pairwise(tokens)):
        return replace(clause, kind="mentions")
    if "show" in roles:
        behind = max(place for place, token in enumerate(tokens) if token.option is not None)
        if "indefinite" in tokens[0].roles or (
            named and any(token.roles & _EVIDENCE for token in tokens[behind:])
        ):  # "A large cup suggests glaucoma": in any eye
            return replace(clause, kind="mentions")
        return replace(clause, kind="shows", firm=True)
    adjacent = language in _WITHOUT_COPULA and any(
        "answer" in before.roles and token.option is not None for before, token in pairwise(tokens)
    )
    answers = "answer" in roles and bool(
        adjacent or roles & {"is", "right", "final", "wouldbe"} or re.search("[:=]", piece)
    )
    if roles & _STATING or answers or ("so" in roles and not evident):
        return replace(clause, kind="states", firm=True, final="final" in roles)
    if (
        "is" in roles
        and not evident
        and not any("link" in token.roles and token.roles <= {"link", "condition", "indefinite"} for token in tokens)
    ):
        return replace(clause, kind="states")
    bare = all(
        token.option is not None or token.roles & {"article", "answer", "sure", "but", "so", "is"} for token in tokens
    )
    return replace(clause, kind="states" if bare else "mentions")


def _affirms(tokens: Sequence[Token]) -> bool:
    """Whether a description may follow an answer: it denies nothing but what belongs to the eye."""
    denies = any(token.roles & _DENYING for token in tokens)
    return not denies or (_opens(tokens) and any("anatomy" in token.roles for token in tokens))


def _opens(tokens: Sequence[Token]) -> bool:
    """Whether a description begins like one: with what it is about, or with a reason."""
    if "so" in tokens[0].roles or "given" in tokens[-1].roles or "because" in tokens[-1].roles:
        return True
    for token in tokens:
        if token.roles & (_EVIDENCE | {"because", "given"}) or token.option == OTHER:
            return True
        if not token.known or ("condition" in token.roles and "not" not in token.roles):
            return False
    return False


def _joins(pair: Sequence[Token]) -> bool:
    """Whether an option stands beside "and" or "or"."""
    return any(token.option is not None for token in pair) and any(
        "and" in token.roles and not token.roles & {"link", "is", "sure", "right", "because"} for token in pair
    )


def _asks(tokens: Sequence[Token]) -> bool:
    """Whether a clause has the order of a question ("is the answer B")."""
    return tokens[0].text in ("is", "ist", "are") and any("answer" in token.roles for token in tokens)


def _has(tokens: Sequence[Token], role: str) -> bool:
    return any(role in token.roles for token in tokens)
