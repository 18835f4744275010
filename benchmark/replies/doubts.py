"""The words in which a reply denies, doubts, retracts or refuses an answer, as regular expressions."""

import re


def _words(*parts: str, also: str = "") -> re.Pattern[str]:
    """Whole words of languages that put spaces between them, and strings of those that don't."""
    return re.compile(rf"\b(?:{'|'.join(parts)})(?!\w)" + (f"|{also}" if also else ""), re.IGNORECASE)


_NEGATIONS = (
    r"not|no(?! doubt)|\w+n't|cannot|never|without|neither|nor|rul(?:e[sd]?|ing) out|exclud\w+|absence|lack\w*"
    r"|unlike|unlikely",
    r"rather than|instead of|free of|nicht|keine?r?|pas|sans|sin|non(?!-)|nao|sem|senza|не|нет",
)
#: Before a name, in its clause: it is denied.
DENIED = _words(*_NEGATIONS, also="不|没有|非|排除|ない|ليس")
#: After a name: it is denied.
DENIED_AFTER = re.compile(
    r"\s(?:(?:is|are|was|were|seems?|appears?|can be|has been|does|do)\b[^.,;\n]{0,20}\b)?"
    r"(?:not|unlikely|absent|ruled out|excluded|less likely|isn't|aren't)\b",
    re.IGNORECASE,
)
#: Before a statement, in its clause: the contrary is stated, or nothing.
NOT_STATED = _words(
    *_NEGATIONS,
    "if|whether|unless|might|may|could|possibl[ey]|potential|perhaps|maybe|either|incorrect|wrong|false|least"
    "|less|second|third",
    "next|alternative|differential|initial|previous|another|guess|depends?|suspected",
    r"falsche?\w?|vielleicht|peut|incorrecte?|fausse|mauvaise|incorrecta|incorreta|quiza|puede"
    r"|unwahrscheinlichste\w?|wenigsten",
    r"menos|moins|meno|sbagliat\w|errad\w|equivocad\w|неверн\w+|неправильн\w+|наименее|менее|segund[oa]|zweit\w+"
    r"|deuxieme|второй|второе",
    also="不|非|错|误|排除|(?<!最)可能(?!性の高い)|ليس|低い|낮은|낮다|오답|틀린|الخاطئ|الأقل|أقل|غير|第二|次に"
    "|두 번째|الثاني",
)
#: In the sentence of a statement: it holds only perhaps.
UNSURE = _words(
    r"if|whether|unless|assuming|not (?:\w+ )?(?:sure|certain)|unsure|uncertain|guess\w*|perhaps|maybe|possibly"
)
#: In a sentence with a second option: the first is not the only answer.
HEDGED = _words(
    "either|or|another|plausible|conceivable|likely|too|might|may|could|can't be (?:ruled out|excluded)"
    "|possibl[ey]|perhaps|maybe",
    "alternatively|also|as well|not sure|both|unsure|uncertain|guess|oder|vielleicht|ou|peut|puede|quiza",
    also="可能|或",
)
#: After an option with which a sentence begins: it is judged, not chosen.
REJECTED = re.compile(
    r"unlikely|incorrect|wrong|false|less likely|least likely|not (?:the|correct|supported|consistent|likely"
    r"|seen|present|possible)"
    r"|isn't|ruled out|excluded|no evidence|inconsistent|possible\b|错误|不",
    re.IGNORECASE,
)
#: The same where no name stands between.
REJECTED_AT_ONCE = re.compile(rf"[\s.:,)\]-]*(?:(?:this|it) is |is )?(?:{REJECTED.pattern})", re.IGNORECASE)
#: Turns a sentence from what is said against to what is stated.
BUT = re.compile(
    r"\b(?:but|however|aber|doch|jedoch|mais|pero|sin embargo|però|pero|ma|tuttavia|mas|porem|но|однако)\b"
    r"|但是?|しかし|하지만|그러나|لكن",
    re.IGNORECASE,
)
#: The model does not want to answer, or can't.
REFUSED = _words(
    r"sorry|as an? (?:ai|artificial|large language|language)|consult (?:with )?(?:an?|your)",
    r"(?:can(?:'t|not| not)|unable to|not able to|not possible to|impossible to|not qualified to) (?:\w+ )?"
    r"(?:provide|give|make|offer|diagnos\w*|determine|answer|assist|help|interpret|analy[sz]e|view|see"
    r"|identify|draw|tell|say|confirm)",
    r"je (?:suis desole|ne peux pas)|no puedo|nao posso|ich kann (?:keine|das|die|nicht)|non posso",
    also="无法|不能(?:提供|诊断)|抱歉|申し訳|できません|죄송|수 없|لا (?:يمكنني|أستطيع)|не могу",
)
