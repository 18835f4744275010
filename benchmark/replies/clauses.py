"""A reply as clauses, and what each says of the options.

Nothing is taken for a statement because of a phrase in it: every word of the clause that states an answer must be known to the
lexicon, and so must be every clause of its sentence, except a description of the image that begins like one.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmark.replies.lexicon import DENYING, EVIDENCE, Token, holds, languages_of
from benchmark.replies.sentences import OPTION, parts_of, sentences
from benchmark.replies.text import OTHER, SYNONYM_MARKS

#: What a clause says of its options: `states` or `shows` (that the image does) one, `rules out` some, or `mentions` them in words
#: that aren't understood, or `asks`. Without options it is `silent`, `describes` the image, `denies` something, or is `strange`.
Kind = Literal["states", "shows", "rules out", "mentions", "asks", "silent", "describes", "denies", "strange"]

#: Languages that say "answer B" for "the answer is B".
_WITHOUT_COPULA = ("ru", "ar", "tr", "hi")
#: Languages in which what makes a condition of a clause ends it.
_VERB_LAST = ("ja", "ko", "zh", "tr", "hi")
#: Ends of clauses that concede them.
_CONCEDING = ("が", "けど", "けれど", "지만", "는데")
_STATING = frozenset({"right", "choose", "left", "final"})
_GREETING = 3  # words
#: What may stand beside a lone option.
_BESIDE = frozenset({"article", "answer", "sure", "but", "so", "is"})


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
        exclaims: whether it is a few words and an exclamation mark ("Guten Tag!").
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
    exclaims: bool = False


def clauses_of(text: str) -> list[Clause]:
    """All clauses of marked text, in order."""
    languages = languages_of(text)
    return [clause for sentence in sentences(text) for clause in _read(sentence, languages)]


def _read(sentence: str, languages: Sequence[str]) -> Iterator[Clause]:
    """The clauses of a sentence."""
    if not re.search(OPTION, sentence) and holds("courtesy", sentence, languages[0]):
        yield Clause(sentence, sentence, "silent")
        return
    if sentence.endswith("!") and len(sentence.split()) <= _GREETING and not re.search(OPTION, sentence):
        safe = not holds("danger", sentence, languages[0])
        yield from (replace(clause, exclaims=safe) for clause in _in_order(sentence, languages, asks=False))
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
    for piece, tokens in parts_of(sentence, languages):
        clause = _judged(piece, tokens, language)
        if hangs == "mentions" and "but" in tokens[0].roles:
            hangs = ""
        verb_last = language in _VERB_LAST
        if hangs in ("", "describes") and tokens[0].roles & ({"so", "because"} if verb_last else {"so"}):
            reasoned = True
            hangs = "" if verb_last else hangs
        if clause.kind in ("states", "shows") and (
            hangs or (_imagines(tokens) and described) or (not clause.firm and spoken and not reasoned)
        ):
            clause = replace(clause, kind="mentions")
        if clause.kind == "strange" and described and not hangs and not holds("danger", clause.text, language):
            clause = replace(clause, kind="describes", plain_description=True)
        if clause.kind == "describes":
            opens = _opens(tokens) or (described and any(token.roles & EVIDENCE for token in tokens))
            opens = opens and (stated or not verb_last or tokens[-1].known)
            reasoned = reasoned or (opens and any(token.roles & {"because", "so", "given"} for token in tokens))
            explains = re.search(r":\s*\Z", sentence[: sentence.find(piece)])
            if stated and not opens and not described and not explains:
                clause = replace(clause, kind="strange")
            on_the_image = "given" in tokens[0].roles and not any("anatomy" in token.roles for token in tokens)
            described = described or not on_the_image
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
    evident = bool(roles & EVIDENCE) or OTHER in named - letters
    safe = evident and not holds("danger", text, language)
    if not options or (options == {OTHER} and not letters and not known):
        clause = replace(clause, options=frozenset())
        if known and roles & DENYING and (not evident or roles & {"right", "choose", "answer"}):
            return replace(clause, kind="silent" if "others" in roles else "denies")
        if known:
            return replace(clause, kind="silent" if not evident else "describes", plain_description=_affirms(tokens))
        return replace(clause, kind="describes" if safe else "strange", plain_description=_affirms(tokens))
    if not known:
        return replace(clause, kind="mentions", plain_description=safe and bool(named))
    if roles & DENYING:
        twice = {"not", "wrong"} <= roles or roles & {"left", "final"} or ("show" in roles and "choose" in roles)
        return replace(clause, kind="mentions" if twice else "rules out")
    strength = _strength(tokens, roles, bool(named), language, ":" in piece or "=" in piece)
    if len(options) > 1 or strength is None:
        return replace(clause, kind="mentions")
    return replace(
        clause,
        kind="shows" if strength == "shown" else "states",
        firm=strength in ("firm", "shown"),
        final="final" in roles and strength == "firm",
    )


def _strength(
    tokens: Sequence[Token], roles: frozenset[str], named: bool, language: str, colon: bool
) -> Literal["firm", "said", "shown"] | None:
    """How an option is given by words that are all known and deny nothing; None where they don't give it."""
    place = next(place for place, token in enumerate(tokens) if token.option is not None)
    before, behind = tokens[:place], tokens[place + 1 :]
    evident = bool(roles & EVIDENCE)
    only_synonym = all(token.option is None or token.text in SYNONYM_MARKS for token in tokens)
    by_a_sign = bool(before and before[-1].roles & EVIDENCE and tokens[place].by_letter)  # "image B"
    imagined = "wouldbe" in roles and evident and "given" not in tokens[0].roles  # "with a pale disc it would be A"
    if only_synonym or by_a_sign or imagined or _joined(tokens, place) or _asks(tokens):
        return None
    if "show" in roles:
        in_any_eye = "indefinite" in tokens[0].roles or (named and any(token.roles & EVIDENCE for token in behind))
        return (
            None if in_any_eye else "shown"
        )  # "A large cup suggests glaucoma", "signs of glaucoma include a large cup"
    if any("anatomy" in token.roles for token in behind):  # "the answer is A in eyes with a swollen disc"
        return None
    adjacent = language in _WITHOUT_COPULA and bool(before) and "answer" in before[-1].roles
    answers = "answer" in roles and bool(adjacent or colon or roles & {"is", "right", "wouldbe"})
    if roles & _STATING or answers or ("so" in roles and not evident):
        return "firm"
    said = "is" in roles and not evident and not any(_only_links(token) for token in tokens)
    return "said" if said or all(token.option is not None or token.roles & _BESIDE for token in tokens) else None


def _affirms(tokens: Sequence[Token]) -> bool:
    """Whether a description may follow an answer: it denies nothing but what belongs to the eye."""
    denies = any(token.roles & DENYING for token in tokens)
    return not denies or (_opens(tokens) and any("anatomy" in token.roles for token in tokens))


def _opens(tokens: Sequence[Token]) -> bool:
    """Whether a description begins like one: with what it is about, or with a reason."""
    if "so" in tokens[0].roles or "given" in tokens[-1].roles or "because" in tokens[-1].roles:
        return True
    for token in tokens:
        if token.roles & (EVIDENCE | {"because", "given"}) or token.option == OTHER:
            return True
        if not token.known or ("condition" in token.roles and "not" not in token.roles):
            return False
    return False


def _joined(tokens: Sequence[Token], place: int) -> bool:
    """Whether an option stands beside "and" or "or" ("the answer is A or")."""
    return any(
        "and" in token.roles and not token.roles & {"link", "is", "sure", "right", "because"}
        for token in (*tokens[max(0, place - 1) : place], *tokens[place + 1 : place + 2])
    )


def _imagines(tokens: Sequence[Token]) -> bool:
    """Whether a clause says what would be, not what the model would say."""
    return any("wouldbe" in token.roles for token in tokens) and not any(token.text in ("i", "i'd") for token in tokens)


def _only_links(token: Token) -> bool:
    """Whether a token is a word like "for" or "in", but neither an article nor a pronoun."""
    return "link" in token.roles and token.roles <= {"link", "condition", "indefinite"}


def _asks(tokens: Sequence[Token]) -> bool:
    """Whether a clause has the order of a question ("is the answer B")."""
    roles = {"answer", "right"} if tokens[0].text in ("is", "are") else {"answer"}
    return tokens[0].text in ("is", "are", "ist") and any(token.roles & roles for token in tokens)
