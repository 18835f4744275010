"""What a reply settles about options other than its answer, taken out of marked text, so that the answer stands alone.

"Not A but D" becomes "D", "B is wrong, so C remains" becomes "so C remains", and a list of verdicts ("A: wrong, B: right, ...")
becomes "answer: B" where exactly one option is judged right. Only capital letters count here.
"""

import re

from benchmark.replies.text import LATIN, MARKS, RIGHT, SYNONYM_MARKS, WRONG

_NAME = f"[{MARKS}{SYNONYM_MARKS}]"
_WORD = (
    r"(?:(?:the|la|le|el|il|die|der|das|den|o|a)\s|l')?(?:(?:option|choice|letter|answer|antwort|lettre"
    r"|reponse|opcion|respuesta|letra"
    r"|alternativa|opcao|resposta|opzione|risposta|lettera|вариант|ответ|الخيار|الإجابة)\s|选项\s?|選択肢\s?"
    r"|答案\s?|보기\s?|선택지\s?)?"
)
_OPTION = (
    rf"(?:{_WORD}[(]?(?-i:(?<![{LATIN}'/-])[A-D](?![{LATIN}'/-]))[)]?(?:\s?[.:(-]?\s?{_NAME}[)]?)?"
    rf"|(?:(?:an?|the|la|le|el|il|die|der|das|eine?|una?|une?|um|uma)\s)?{_NAME})"
)
_AND = (
    r"(?:\s?[,&/]\s?(?:(?:and|or|und|et|ou|y|e|o|и|или)\s)?|\s(?:and|or|nor|und|oder|et|ou|y|e|o|и|или|و)\s|和|与"
    r"|及|と|や|및|와\s?|과\s?)"
)
_OPTIONS = rf"(?:(?:both|neither|beide|sowohl|tanto)\s)?{_OPTION}(?:{_AND}{_OPTION}){{0,3}}"


def _regex(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


#: "not A but" before another option; `be` is the verb that stays where the pattern swallows one.
_NOT_BUT = _regex(
    rf"(?:\b(?P<be_en>is|are|was)n't|\bnot)\s{_OPTION}"
    rf"\s?,?\s(?:but|it(?:'s| is))(?:\s(?:rather|instead))?\s(?=(?:rather\s)?{_OPTION})",
    rf"\b(?:nicht|keine?n?)\s{_OPTION}\s?,?\s(?:sondern)(?:\s(?:eher|vielmehr))?\s(?={_OPTION})",
    rf"(?:(?P<be_ce>\bce n'est)\s|\bn'(?P<be_fr>est)\s)?\b(?:pas|non)\s{_OPTION}\s?,?\smais(?:\s(?:plutot"
    rf"|bien))?\s(?={_OPTION})",
    rf"\bno\s(?:(?P<be_es>es|era)\s)?{_OPTION}\s?,?\ssino(?:\sque)?(?:\ses)?\s(?={_OPTION})",
    rf"\bnon\s(?:(?P<be_it>è|e')\s)?{_OPTION}\s?,?\s(?:ma|bensi)(?:\spiuttosto)?\s(?={_OPTION})",
    rf"\bnao\s(?:(?P<be_pt>é)\s)?{_OPTION}\s?,?\s(?:mas(?:\ssim)?|e\ssim|senao)\s(?={_OPTION})",
    rf"\b(?P<not_ru>не)\s{_OPTION}\s?,?\sа\s(?={_OPTION})",
    rf"\b(?:niet|nie)\s{_OPTION}\s?,?\s(?:maar|lecz|ale)\s(?={_OPTION})",
    rf"(?:(?P<be_zh>是)?并非|(?:并)?不(?P<be_zh2>是))\s?{_OPTION}\s?,?\s?(?:而是|应该是|应是|是)\s?(?={_OPTION})",
    rf"{_OPTION}\s?(?:では|じゃ|で)な(?:く|くて)\s?,?\s?(?={_OPTION})",
    rf"{_OPTION}\s?(?:이|가|은|는)?\s?아니(?:라|고)\s?,?\s?(?={_OPTION})",
    rf"(?P<not_ar>ليست?|ليس هو|ليست هي)\s{_OPTION}\s?,?\s?(?:بل|وإنما|ولكن|لكن)\s(?:هو\s|هي\s)?(?={_OPTION})",
)
#: "B, not C": what stands behind the answer.
_NOT_THIS = _regex(
    rf"(?<=[A-D){MARKS}])\s?,?\s(?:(?:and|und|et|y|e|и|а)\s)?(?:not|nicht|pas|non(?:\spas)?|nao|не"
    rf"|rather than|instead of|statt|anstatt"
    rf"|plutot qu(?:e\s|')|au lieu de|en lugar de|en vez de|invece di|invece che|piuttosto che|anziche"
    rf"|em vez de|ao inves de|вместо)"
    rf"\s?{_OPTIONS}(?=\s?(?:[.;!)\n]|,\s|\Z))",
    rf"(?<=[A-D){MARKS}])\s?,?\s?(?:而)?(?:不是|并非|非)\s?{_OPTION}(?=\s?(?:[.;!)\n]|,\s|\Z))",
    rf"(?<=[A-D){MARKS}])\s?,?\s(?:وليست?|لا)\s{_OPTION}(?=\s?(?:[.;!)\n]|\Z))",
)
_VERY = (
    r"(?:(?:all|both|also|clearly|definitely|therefore|most|very|likely|klar|eindeutig|alle|beide|daher|auch"
    r"|clairement|donc|claramente)\s){0,3}"
)
#: "A and B are wrong", in any clause.
_RULED_OUT = _regex(
    rf"{_OPTIONS}\s(?:is|are|was|were|can be|could be|must be|would be|has been|have been|being)\s{_VERY}"
    r"(?:wrong|incorrect|false|ruled out|excluded|eliminated|unlikely|implausible|impossible|not (?:correct"
    r"|right|possible|the answer|likely))"
    r"(?!\w)",
    rf"{_OPTIONS}\s(?:is|are)n't\s(?:correct|right|possible|the answer|likely)\b",
    rf"{_OPTIONS}\s(?:does|do)(?:n't|\snot)\s(?:fit|match|apply)\b",
    rf"{_OPTIONS}\s(?:ist|sind|wird|werden|kann|konnen|scheidet|scheiden|fallt|fallen|kommt|kommen|passt"
    rf"|passen|trifft|treffen)\s{_VERY}"
    r"(?:falsch|ausgeschlossen(?:\swerden)?|aus|weg|unwahrscheinlich|inkorrekt|unzutreffend|nicht (?:richtig"
    r"|korrekt|infrage|in frage|zu)|nicht)(?!\w)",
    rf"{_OPTIONS}\s(?:(?:est|sont|peut etre|peuvent etre)\s{_VERY}"
    r"(?:fau(?:x|sses?)|incorrecte?s?|exclue?s?|elimine?e?s?|ecarte?e?s?|inexacte?s?|improbables?)"
    r"|(?:n'est|ne sont)\spas\s(?:correcte?s?|la bonne(?: reponse)?|justes?|exacte?s?|bonnes?))(?!\w)",
    rf"{_OPTIONS}\s(?:(?:es|son|esta|estan|queda|quedan)\s{_VERY}"
    r"(?:incorrect[ao]s?|fals[ao]s?|erronea?o?s?|descartad[ao]s?|excluid[ao]s?|eliminad[ao]s?|improbables?"
    r"|equivocad[ao]s?)"
    r"|se\s(?:descartan?|excluyen?|eliminan?)|no\s(?:es|son|esta)\scorrect[ao]s?)(?!\w)",
    rf"{_OPTIONS}\s(?:(?:è|sono|va|vanno|viene|risulta)\s{_VERY}"
    r"(?:sbagliat\w|errat\w|scorrett\w|fals\w|esclus\w|eliminat\w|scartat\w|improbabil\w|da escludere)"
    r"|si\sesclud\w+|non\s(?:è|sono)\scorrett\w)(?!\w)",
    rf"{_OPTIONS}\s(?:(?:é|sao|esta|estao|fica|ficam|foi|foram)\s{_VERY}"
    r"(?:errad\w+|incorret\w+|fals\w+|excluid\w+|descartad\w+|eliminad\w+|improvave\w+)|nao\s(?:é|esta)\scorret\w)(?!\w)",
    rf"{_OPTIONS}\s?-?\s(?:(?:это|явно|можно|тоже)\s)?(?:неверн\w+|неправильн\w+|ошибочн\w+|исключ\w+|не\sподход\w+"
    rf"|отпада\w+|маловероят\w+)",
    rf"{_OPTIONS}\s?(?:选项|项)?(?:都|均|可以|可|已|是)?(?:被)?(?:排除|错误的?|错的?|不对|不正确|不符合?"
    rf"|不成立)(?!\w*(?:吗|嗎))",
    rf"{_OPTIONS}\s?(?:は|が|も|を)?\s?(?:除外|間違い|間違って|誤り|違い|違う|正しくな|不正解|不適切"
    rf"|では(?:ない|ありません))"
    r"(?:さ?れ(?:る|ます)?|でき(?:る|ます)?|い|します|する)?(?:ので|ため|で(?:あり)?|です|だ|から|ます)?",
    rf"{_OPTIONS}\s?(?:은|는|이|가|를|을)?\s?(?:제외|틀|오답|배제|정답이\s아|맞지\s않|아닙|아니)\w*",
    rf"{_OPTIONS}\s(?:غير\s(?:صحيحة?|محتملة?)|خاطئة?|خطأ|مستبعدة?|ليست?\sصحيحة?)(?!\w)",
)
_YES = (
    r"correct|right|true|yes|richtig|korrekt|wahr|ja|zutreffend|vraie?|correcte?|juste|oui|exacte?"
    r"|correct[ao]|verdader[ao]|cierto|si|corrett[ao]"
    r"|giust[ao]|vero|corret[ao]|cert[ao]|verdadeir[ao]|sim|верно|правильно|верный|да|正确|正確|对|對|正しい"
    r"|正解|はい|맞음|맞다|정답|옳음|예|صحيحة?|نعم"
)
_NO = (
    r"incorrect|wrong|false|no|falsch|inkorrekt|unzutreffend|nein|fau(?:x|sse)|incorrecte?|non|inexacte?"
    r"|incorrect[ao]|fals[ao]|errone[ao]"
    r"|sbagliat[ao]|errat[ao]|scorrett[ao]|incorret[ao]|errad[ao]|nao|неверно|неправильно|неверный|нет|错误"
    r"|錯誤|错|錯|不正确|不对|誤り|間違い|不正解|いいえ"
    r"|틀림|틀리다|오답|아니오|خاطئة?|خطأ|لا|not (?:correct|right|true)|nicht richtig|unlikely|excluded|ruled out"
)
_VERDICT = re.compile(
    rf"(?<![{LATIN}'/-])[(]?(?-i:(?P<letter>[A-D]))[)]?(?:\s?[.:)(-]?\s?{_NAME}[)]?)?\s?[.:=,>|(-]{{0,3}}\s?"
    rf"(?:(?:is|ist|est|es|è|é|esta|это|是|は|이|가|은|는)\s?)?(?:(?P<yes>{RIGHT}|(?:{_YES})(?![{LATIN}\u0400-\u04ff]))"
    rf"|(?P<no>{WRONG}|(?:{_NO})(?![{LATIN}\u0400-\u04ff])))(?=\s?(?:[.,;)|/\n]|\Z|[A-D]\b|[(]|-)|です|だ|[^\S\n](?:[A-D]\b))",
    re.IGNORECASE,
)
_YES_OR_NO = re.compile(r"\b(?:yes|no|ja|nein|oui|non|si|sim|nao|да|нет)\b|はい|いいえ|예|아니오|نعم|لا", re.I)
_BEFORE = re.compile(
    rf"(?:(?P<yes>{RIGHT})|(?P<no>{WRONG}))\s?[.:(-]{{0,2}}\s?(?P<letter>[A-D])(?![{LATIN}'/-])(?:\s?[.:)]?\s?{_NAME})?"
)
#: Sayings of certainty that contain a word of doubt.
_SURE = re.compile(
    r",?\s?(?:\b(?:(?:there is |there's )?no doubt(?: that)?|without (?:a |any )?doubt|beyond (?:a "
    r"|any )?doubt|undoubtedly|doubtless|ohne (?:jeden )?zweifel"
    r"|zweifellos|zweifelsfrei|sans (?:aucun )?doute|sin (?:lugar a |ninguna )?dudas?|indudablemente"
    r"|senza (?:alcun )?dubbio|indubbiamente|sem (?:qualquer )?duvida"
    r"|без (?:всякого )?сомнения|несомненно|безусловно)(?!\w)|毫无疑问|毫無疑問|无疑|間違いなく|疑いなく"
    r"|의심할 여지 없이|틀림없이|بلا شك|بدون شك|لا شك أن)\s?,?",
    re.IGNORECASE,
)


def settled(text: str) -> str:
    """Marked text without what it settles about other options, and with a list of verdicts as one statement."""
    text = _SURE.sub(" ", text)
    text = _verdicts(text)
    text = text.replace(RIGHT, " ").replace(WRONG, " not ")
    text = _NOT_BUT.sub(_but, text)
    text = _RULED_OUT.sub(" ", text)
    text = _NOT_THIS.sub("", text)
    text = re.sub(r"[^\S\n]+", " ", text)
    return re.sub(r"\A[\s,;.:]+|(?<=\n)[ ,;.:]+", "", text)


def _verdicts(text: str) -> str:
    pattern = _BEFORE if text.lstrip(" (").startswith((RIGHT, WRONG)) else _VERDICT
    found = list(pattern.finditer(text))
    right = {match["letter"].upper() for match in found if match["yes"]}
    wrong = {match["letter"].upper() for match in found if match["no"]}
    if not right or len(right | wrong) < 2:
        return text
    if len(right | wrong) == 2 and any(
        _YES_OR_NO.search(match[0]) for match in found
    ):  # "A: yes, B: no" may answer two questions
        return text
    rest = pattern.sub(" ", text)
    if len(right) != 1 or right & wrong:
        return f"{rest}\nanswer: A or B"
    return f"{rest.strip(' ,;.|/')}\nanswer: {right.pop()}"


def _but(match: re.Match[str]) -> str:
    """What a contrast leaves before its second option: the verb, or a colon where the language needs none."""
    before = match.string[: match.start()].rstrip(" ")[-1:]
    if (not before and not match["be_ce"]) or (before and before in ".,;:!?\n=-("):
        return ""
    groups = match.groupdict()
    if groups["not_ru"] or groups["not_ar"]:
        return ": "
    be = next((verb for name, verb in groups.items() if name.startswith("be_") and verb), "")
    be = "c'est" if groups["be_ce"] else be
    return be if groups["be_zh"] or groups["be_zh2"] else f"{be} " if be else ""
