"""The words in which a reply denies, doubts, retracts or refuses an answer, as regular expressions."""

import re


def _words(*parts: str, also: str = "") -> re.Pattern[str]:
    """Whole words of languages that put spaces between them, and strings of those that don't."""
    return re.compile(rf"\b(?:{'|'.join(parts)})(?!\w)" + (f"|{also}" if also else ""), re.IGNORECASE)


_NEGATIONS = (
    r"not|no(?! doubt)|\w+n't|cannot|never|without|neither|nor|rul(?:e[sd]?|ing) out|exclud\w+|absence|lack\w*|unlike|unlikely",
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
    "if|whether|unless|might|may|could|possibl[ey]|potential|perhaps|maybe|either|incorrect|wrong|false|least|less|second|third",
    "next|alternative|differential|initial|previous|another|guess|depends?|suspected",
    "falsche?|vielleicht|peut|incorrecte?|fausse|incorrecta|incorreta|quiza|puede",
    also="不|非|错误|排除|(?<!最)可能|ليس",
)
#: In the sentence of a statement: it holds only perhaps.
UNSURE = _words(
    r"if|whether|unless|assuming|not (?:\w+ )?(?:sure|certain)|unsure|uncertain|guess\w*|perhaps|maybe|possibly"
)
#: In a sentence with a second option: the first is not the only answer.
HEDGED = _words(
    "either|or|another|plausible|conceivable|likely|too|might|may|could|can't be (?:ruled out|excluded)|possibl[ey]|perhaps|maybe",
    "alternatively|also|as well|not sure|both|unsure|uncertain|guess|oder|vielleicht|ou|peut|puede|quiza",
    also="可能|或",
)
#: After an option with which a sentence begins: it is judged, not chosen.
REJECTED = re.compile(
    r"unlikely|incorrect|wrong|false|less likely|least likely|not (?:the|correct|supported|consistent|likely|seen|present|possible)"
    r"|isn't|ruled out|excluded|no evidence|inconsistent|possible\b|错误|不",
    re.IGNORECASE,
)
#: The same where no name stands between.
REJECTED_AT_ONCE = re.compile(rf"[\s.:,)\]-]*(?:(?:this|it) is |is )?(?:{REJECTED.pattern})", re.IGNORECASE)
#: After an answer: it is taken back.
RETRACTED = _words(
    r"wait|on second thought|scratch that|correction|i was wrong|i made a mistake|let me re\w+|actually|i meant?|no,(?= )"
)
#: The model does not want to answer, or can't.
REFUSED = _words(
    r"sorry|as an? (?:ai|artificial|large language|language)|consult (?:with )?(?:an?|your)",
    r"(?:can(?:'t|not| not)|unable to|not able to|not possible to|impossible to|not qualified to) (?:\w+ )?"
    r"(?:provide|give|make|offer|diagnos\w*|determine|answer|assist|help|interpret|analy[sz]e|view|see|identify|draw|tell|say|confirm)",
    r"je (?:suis desole|ne peux pas)|no puedo|nao posso|ich kann (?:keine|das|die|nicht)|non posso",
    also="无法|不能(?:提供|诊断)|抱歉|申し訳|できません|죄송|수 없|لا (?:يمكنني|أستطيع)|не могу",
)
