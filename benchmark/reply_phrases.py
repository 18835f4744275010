"""The phrases in which a reply states its answer, as regular expressions over `benchmark.reply_text.marked` text.

Every phrase ends in (or begins with) the option: a letter with or without its name, or a name. A letter counts only between
boundaries, so that an article, `vitamin B`, `A-scan`, `C/D ratio`, `C'est` or `B. henselae` is none. All quantifiers are
bounded or over disjoint characters: time is linear in the length of the reply.
"""

import re

from benchmark.reply_text import LATIN, MARKS

_MARK = f"[{MARKS}]"
#: A letter of any case that stands alone. Letters beyond D are caught too: they say that none of the four is meant.
_LETTER = rf"(?<![{LATIN}'°/-])(?:[A-Z])(?![{LATIN}/-]|'(?!d.r\b))"
#: What may follow the option in a statement. A question mark may not, nor `or`, `and` or another word that goes on with a name.
_END = (
    rf"(?=\s?(?:\Z|\n|[;:!,)\]](?![{LATIN}])|\.(?![{LATIN}])(?!\s(?-i:(?!(?:because|the|this|there|it|as|an?|since|in)\b)[a-z]))"
    r"|- |[(]|'d.r\b|です|だ|である|입니다|이다|है|选项)"
    r"|\s(?:because|as|since|due to|based on|given|with|in (?:this|the)|for (?:this|the)|here|rather than|instead|weil|da|porque|car)\b)"
)
_THE = r"(?:(?:the|an?|la|le|el|il|lo|o|die|der|das|een|het)\s)?"
_WORD = (
    r"(?:(?:option|choice|letter|answer|opcion|opcao|opzione|alternativa|lettre|letra|lettera|buchstabe|antwort|reponse|respuesta"
    r"|resposta|risposta|вариант|选项|選項|选择)\s?:?\s?)?"
)
#: Between a letter and its name.
_THEN = r"(?:\s?[.:,)\](=-]{1,3}\s?|(?<!\b(?-i:a))\s)"
#: An option as stated: letter (and name), or name (and letter).
OPTION = (
    rf"(?:{_THE}{_WORD}[(\[]?(?P<letter>{_LETTER})[)\]]?(?:{_THEN}{_THE}(?P<text>{_MARK}))?+(?(text)|{_END})"
    rf"|{_THE}(?:(?:case|instance) of\s)?(?P<name>{_MARK})"
    rf"(?:\s?[(,-]\s?(?:option\s)?[(]?(?P<after>{_LETTER})(?=\s?(?:\Z|[\n.,;)])))?+{_END})"
)
_SURELY = (
    r"(?:(?:most |very |highly )?(?:likely|probably|probable|clearly|definitely|therefore|thus|indeed|certainly|simply|consistent with"
    r"|wahrscheinlich|probablement|probablemente)[:,]?\s)?"
)
_ADJECTIVE = (
    r"(?:correct|right|best|final|appropriate|accurate|likely|probable|reasonable|plausible|chosen|selected|my|richtige|korrekte|beste"
    r"|bonne|meilleure|correcta|mejor|correta|melhor|corretta|migliore|juiste|правильный|верный|正确|最佳|正しい|正確な)"
)
_NOUN = (
    rf"(?:(?<![{LATIN}])(?:answer(?!\s(?:options|choices))|diagnosis|diagnose|diagnostic|diagnostico|diagnosi|prediction|impression"
    r"|conclusion|antwort|losung|reponse|respuesta|resposta|risposta|antwoord|odpowiedz|prawidlowa odpowiedz|cevap|yanit|jawaban"
    r"|đap an|ответ|диагноз|उत्तर|الإجابة(?: الصحيحة)?|الجواب|"
    rf"{_ADJECTIVE}\s(?:option|choice|letter|condition|disease|opcion|opcao|opzione|alternativa|lettre|letra)"
    rf"|(?:option|choice|opcion|opcao|opzione|alternativa)\s{_ADJECTIVE})"
    r"|答案|正解|答え|回答|诊断|診断|정답|답|진단)"
)
_IS = (
    r"(?:\s?[:=]|\s-(?=\s)|\s?\n|\s(?:is|was|would be|should be|must be|seems to be|appears to be|ist|lautet|ware|est|serait|es|seria"
    r"|é|è|jest|adalah|la|هي|هو)(?=[\s:(])\s?:?|\s?(?:应该是|应为|應為|是|为|為|は|은|는|이|:)\s?:?)"
)
_IT_IS = r"(?:(?:it|this)(?: is| would be|'s)|(?:the )?answer is|c'est)"
_CORRECT = (
    r"(?:correct|right(?! eye| fundus)|accurate|best|the answer|answer|most (?:likely|probable|reasonable|appropriate|plausible|accurate)"
    r"|richtig|korrekt|richtige|bonne|correcta?|corretta?|correta|правильный)"
)
_IS_CORRECT = rf"[)\]]?\s(?:is|would be|seems|ist|est|es|é|è)\s(?:clearly |definitely )?{_THE}{_CORRECT}\b"
_START = r"(?:\A|[\n.,;:!?(]\s?|\b(?:that|think|believe|so|therefore|thus|hence|but|while|whereas)\s)"

#: Statements: the phrase says that what it names is the answer. `final` and `gap` are groups of the first one only.
STATEMENTS = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        rf"(?P<final>(?:\bfinal\s|\bmy final\s|最终\s?|最終\s?))?{_NOUN}(?P<gap>[^.,;:!?\n()=]{{0,70}}?){_IS}\s?{_SURELY}{OPTION}",
        rf"\bi(?:'d|'ll| would| will| must)? (?:choose|select|pick|go with|opt for|answer|say|think|believe|chose|selected)"
        rf"(?: that)?(?: {_IT_IS})?:? {_SURELY}{OPTION}",
        rf"{_START}(?:so |therefore |thus |hence )?{_IT_IS}:? {_SURELY}{OPTION}",
        rf"(?:\A|[\n.,;:!?]\s?)(?:therefore|thus|hence|so|in conclusion)[,:]? {_SURELY}{OPTION}",
        rf"{_START}{_THE}{_WORD}[(\[]?(?P<letter>{_LETTER})[)\]]?(?:{_THEN}(?P<text>{_MARK}))?+{_IS_CORRECT}",
        rf"{_START}{_THE}(?P<name>{_MARK})(?:\s?[(]?{_WORD}(?P<after>{_LETTER}))?+{_IS_CORRECT}",
        rf"(?:应?选择?|應選|選択|选项(?:是|为)?)\s?:?\s?{OPTION}",
        rf"(?:\A|[\n.,;:!?\s])(?P<letter>{_LETTER})\s?(?:选项|項|项)?\s?(?:是|为|が|가|는|은)?\s?(?:正确|正解|正しい|정답|最可能|最合适|最佳)",
    )
)
#: The reply begins with the option.
BEGINNING = re.compile(rf"\A(?:(?:most likely|likely|most probably|probably|definitely|sure)[:,]? )?{OPTION}", re.I)
#: A line that is nothing but options; `ATOM` finds them in it.
ATOM = re.compile(rf"(?P<letter>{_LETTER})|(?P<name>{_MARK})", re.I)
LINE = re.compile(rf"\A{_THE}{_WORD}[(\[]?(?:{ATOM.pattern.replace('?P<letter>', '?:').replace('?P<name>', '?:')})"
                  rf"(?:[\s.,;:)(\]\[-]*(?:{_LETTER}|{_MARK}))*[\s.!,;:)\]]*\Z", re.I)  # fmt: skip
#: Descriptions that name a disease, which answer where nothing else does.
SHOWN = re.compile(
    rf"\b(?:shows?|showing|reveals?|demonstrates?|depicts?|displays?|exhibits?|presents? with|has|indicates?|suggests?|represents?"
    r"|(?:consistent|compatible) with|(?:characteristic|typical|indicative|suggestive) of|diagnosed with)\s"
    r"(?:(?:clear |typical |characteristic )?(?:signs?|features|evidence|findings|changes)\s(?:of|consistent with|typical of)\s)?"
    rf"{_THE}(?:case of )?(?P<name>{_MARK}){_END}",
    re.I,
)
#: More options named after a stated one.
ANOTHER = re.compile(
    rf"[)\]]?\s?(?:,|/|&|\+|\b(?:and|or|und|oder|et|ou|y|o|e|или|и)\b|和|或|与|또는|및|と)\s?(?:(?:or|and|also|possibly|maybe|perhaps|even)\s)?"
    rf"{OPTION}",
    re.I,
)
#: A letter that means an option, whatever is said of it.
MENTIONED = re.compile(rf"\b(?:option|choice|answer)\s[(]?(?P<letter>{_LETTER})|(?<![{LATIN}'°/-])(?-i:[B-D])(?![{LATIN}'/-])", re.I)
#: Beginnings of an enumeration's entries.
ENUMERATED = re.compile(rf"(?:\A|[\n.,;] ?)(?:option )?[(\[]?(?P<letter>{_LETTER})[.):\]](?=\s)", re.I)
#: Four options repeated in order, as asked.
RESTATED = re.compile(
    r"[\s,;.]*".join(rf"[(\[]?{letter}{_THEN}{mark}" for letter, mark in zip("ABCD", MARKS, strict=False)), re.I
)

_NEGATIONS = (
    r"not?|\w+n't|cannot|never|without|neither|nor|rul(?:e[sd]?|ing) out|exclud\w+|absence|lack\w*|unlike|unlikely|rather than"
    r"|instead of|free of|nicht|keine?r?|pas|sin|non|nao|sem|senza|sans|не|нет"
)
#: Before a name, in its clause: it is denied.
DENIED = re.compile(rf"\b(?:{_NEGATIONS})\b|不|没有|非|排除|ない|ليس", re.I)
#: After a name: it is denied.
DENIED_AFTER = re.compile(
    r"\s(?:(?:is|are|was|were|seems?|appears?|can be|has been|does|do)\b[^.,;\n]{0,20}\b)?(?:not|unlikely|absent|ruled out|excluded"
    r"|less likely|isn't|aren't)\b",
    re.I,
)
#: Before a phrase, in its clause: it isn't stated, or the contrary is.
NOT_STATED = re.compile(
    rf"\b(?:{_NEGATIONS}|if|whether|unless|might|may|could|possibl[ey]|potential|perhaps|maybe|either|incorrect|wrong|false|least|less"
    r"|second|third|next|alternative|differential|initial|previous|another|guess|suspected|falsche?|vielleicht|peut|incorrecte?|fausse"
    r"|incorrecta|incorreta|quiza|puede)\b|不|非|错误|排除|可能(?!性?最)|ليس",
    re.I,
)
#: After an option that begins a statement: it is judged, not chosen.
REJECTED = re.compile(
    r"(?:unlikely|incorrect|wrong|false|less likely|least likely|not (?:the|correct|supported|consistent|likely|seen|present|possible)"
    r"|isn't|ruled out|excluded|no evidence|inconsistent|possible\b|错误|不)",
    re.I,
)
UNSURE = re.compile(r"\b(?:not (?:\w+ )?(?:sure|certain)|unsure|uncertain|guess\w*|perhaps|maybe|possibly)\b", re.I)
#: In a sentence with a second option: the first is not the only answer.
HEDGED = re.compile(
    r"\b(?:either|or|might|may|could|can't be (?:ruled out|excluded)|possibl[ey]|perhaps|maybe|alternatively|also|as well|not sure|both"
    r"|unsure|uncertain|guess|more likely|oder|vielleicht|ou|peut|puede|quiza)\b|可能|或",
    re.I,
)
RETRACTED = re.compile(
    r"\b(?:wait|on second thought|scratch that|correction|i was wrong|i made a mistake|let me re\w+|no, (?:that|it|this))\b", re.I
)
REFUSED = re.compile(
    r"\bsorry\b|\b(?:can(?:'t|not| not)|unable to|not able to|not possible to|impossible to|not qualified to) (?:\w+ )?(?:provide|give|make"
    r"|offer|diagnos\w*|determine|answer|assist|help|interpret|analy[sz]e|view|see|identify|draw|tell|say|confirm)"
    r"|\bas an? (?:ai|artificial|large language|language)\b|\bconsult (?:with )?(?:an?|your)\b|\bje (?:suis desole|ne peux pas)"
    r"|\bno puedo\b|\bnao posso\b|\bich kann (?:keine|das|die|nicht)|\bnon posso\b|无法|不能(?:提供|诊断)|抱歉|申し訳|できません|죄송|수 없"
    r"|لا (?:يمكنني|أستطيع)|не могу",
    re.I,
)
