"""The phrases in which a reply states its answer, as regular expressions over `benchmark.replies.text.marked` text.

Every phrase names an option: by a letter with or without its name, or by a name. A letter counts only between boundaries, so
that an article, `vitamin B`, `A-scan`, `C/D ratio`, `C'est` or `B. henselae` is none. Quantifiers are bounded, possessive or
over disjoint characters: time is linear in the length of the reply.
"""

import re

from benchmark.replies.doubts import REJECTED
from benchmark.replies.text import LATIN, MARKS, SYNONYM_MARKS
from mgll.vocabulary.questions import LETTERS


def _any(*parts: str) -> str:
    return f"(?:{'|'.join(parts)})"


def _pattern(*parts: str) -> re.Pattern[str]:
    return re.compile("".join(parts), re.IGNORECASE)


_MARK = f"[{MARKS}]"
_NAME = f"[{MARKS}{SYNONYM_MARKS}]"  # beside a letter, where a synonym can contradict it
#: A letter of any case that stands alone. Letters beyond D are caught too: they say that none of the four is meant.
_LETTER = rf"(?<![{LATIN}'°/-])[A-HJ-Z](?![{LATIN}/-]|'(?!d.r\b))"
_CAPITAL = "(?-i:[A-Z])"
#: After "B." no small word may follow (`B. henselae`) unless it is one that begins an explanation; nor a second initial.
_NO_ABBREVIATION = rf"(?![{LATIN}])(?! (?-i:(?!{_any('because|the|this|there|it|as|an?|since|in')}\b)[a-z]|[A-Z]\.))"
#: What may follow the option in a statement: not a question mark, nor `or`, `and` or another word with which a name goes on.
_END = _any(
    rf"(?=\s?(?:\Z|\n|[;!,)\]](?![{LATIN}])|:(?!\s?[{LATIN}]*\d)|\.{_NO_ABBREVIATION}|- |[(](?!\d|[A-Z]\s?\))"
    rf"|'d.r\b))",
    r"(?=\s?(?:です|だ|であり|である|で,|でしょう|となります|となる|입니다|이다|이고|이며|예요|이에요|है"
    r"|选项(?![不错])))",
    r"(?=\s(?:answer|explanation|reason|reasoning|rationale|justification|confidence)\s?:)",
    r"(?=\s(?:because|as|since|due to|based on|given|with|in this|in the|for this|here|rather than|instead)\b)",
    r"(?=\s(?:weil|da|denn|porque|car|parce|puisque|ya que|perche|poiche|pois|já que|потому|так как|поскольку"
    r"|لأن|لأنه)\b)",
    "(?=\\s?(?:因为|由于))",
)
_THE = r"(?:(?:the|an?|la|le|el|il|lo|o|die|der|das|een|het)\s|l')?"
_WORD = _any(
    r"option|choice|letter|answer|ans\.?|buchstabe|antwort|lettre|reponse|opcion|respuesta|alternativa|letra"
    r"|opcao|resposta",
    r"opzione|lettera|risposta|вариант|(?:dogru )?cevap|(?:सही )?उत्तर|选项|選項|选择",
)
_OPTIONAL_WORD = rf"(?:{_WORD}\s?:?\s?)?"
#: Between a letter and its name; a lower-case "a" before a name is an article.
_THEN = r"(?:\s?[.:,)\](=-]{1,3}\s?|(?<!\b(?-i:a))\s)"
_OPENED_LETTER = rf"{_THE}{_OPTIONAL_WORD}(?:[(\[]\s?)?(?P<letter>{_LETTER})[)\]]?+"
#: An option as stated: letter (and name), or name (and letter).
_OPTION = _any(
    rf"{_OPENED_LETTER}(?:{_THEN}{_THE}(?P<text>{_NAME}))?+(?(text)|{_END})",
    rf"{_THE}(?:(?:case|instance) of\s)?(?P<name>{_MARK})"
    rf"(?:\s?[(,-]\s?(?:option\s)?[(]?(?P<after>{_LETTER})(?=\s?(?:\Z|[\n.,;)])))?+{_END}",
)
_SURELY = r"(?:(?:most |very |highly )?{}[:,]?\s)?".format(
    _any(
        "likely|probably|probable|clearly|definitely|therefore|thus|indeed|certainly|simply|wahrscheinlich|probablement"
    )
)
_RIGHT = _any(
    "correct|right|best|final|appropriate|accurate|likely|probable|reasonable|plausible|chosen|selected|my"
    "|richtige|korrekte|beste",
    "bonne|meilleure|correcta|mejor|correta|melhor|corretta|migliore|juiste|правильный|верный|正确|最佳|正しい|正確な",
)
_ANSWER = _any(
    rf"(?<![{LATIN}])"
    + _any(
        r"ans(?!\w)|answer(?!\s(?:options|choices))|choice(?=\sis\b)|correct(?=\s?:)|diagnosis|prediction"
        r"|impression|response|output",
        r"conclusion|antwort(?!en)|losung|diagnose|reponse|diagnostic|respuesta|diagnostico|resposta|risposta"
        r"|diagnosi|antwoord|odpowiedz",
        r"cevap|yanit|jawaban|đap an|ответ|диагноз|उत्तर|(?:ف|و)?الإجابة(?: الصحيحة| النهائية)?|(?:ف"
        r"|و)?الجواب(?: الصحيح)?|التشخيص|الخيار الصحيح",
        rf"{_RIGHT}\s(?:option|choice|letter|condition|disease|opcion|opcao|opzione|alternativa|lettre|letra)",
        rf"(?:option|choice|opcion|opcao|opzione|alternativa)\s{_RIGHT}",
    ),
    "答案|正解|答え|回答|诊断|診断|정답|(?<!오)답|진단",
)
_IS = _any(
    r"\s?[:=]|\s-(?=\s)|\s?\n",
    r"\s(?:is|was|would be|should be|must be|seems to be|appears to be)(?=[\s:(])\s?:?",
    r"\s(?:ist|lautet|ware|est|serait|es|seria|é|è|jest|adalah|la|هي|هو)(?=[\s:(])\s?:?",
    r"\s?(?:应该是|应为|應為|是|为|為|は|은|는|이|:)\s?:?",
)
_IT_IS = _any("(?:it|this)(?: is| would be| appears to be| seems to be|'s)", "(?:the )?answer is", "c'est")
_IS_CORRECT = (
    rf"[)\]]?\s(?:is|are|would be|seems|ist|est|es|é|è)\s(?:clearly |definitely )?{_THE}"
    + _any(
        r"correct|right(?! eye| fundus)|accurate|best|answer|most (?:likely|probable|reasonable|appropriate"
        r"|plausible|accurate)",
        r"richtig|korrekt|(?:richtige|beste) antwort|correcte?|bonne reponse|correcta|correta|corretta",
        r"(?:reponse|respuesta|resposta|risposta)(?:\s\w+)?",
    )
    + r"(?=\s?(?:\Z|[.,;:)\n!]|"
    + _any("answer|option|choice|diagnosis|one|condition|disease|explanation|here|given|based|because|in this|for this")
    + r"\b))"
)
_START = r"(?:\A|[\n.,;:!?(]\s?|\b(?:that|think|believe|so|therefore|thus|hence|but|while|whereas)\s)"

_THEREFORE = _any(
    r"(?:therefore|thus|hence|so|in conclusion|daher|somit|folglich|donc|por (?:lo )?tanto|asi que|quindi"
    r"|dunque|portanto|logo)(?!\w)",
    "значит|следовательно|поэтому|所以|因此|따라서|よって|したがって|لذلك|إذن",
)
#: Statements that what they name is the answer. Only the first has the groups `final` and `gap`.
STATED: tuple[re.Pattern[str], ...] = (
    _pattern(
        r"(?P<final>(?:\bfinal\s|\bmy final\s|最终\s?|最終\s?))?",
        rf"{_ANSWER}(?P<gap>[^.,;:!?\n()=]{{0,70}}?){_IS}\s?{_SURELY}{_OPTION}",
    ),
    _pattern(
        rf"\bi(?:'d|'ll| would| will| must)? (?:choose|select|pick|go with|opt for|answer|chose|selected):? {_OPTION}"
    ),
    _pattern(rf"(?:\A|[\n.,;:!?]\s?){_THEREFORE}[,:]?\s?{_SURELY}{_OPTION}"),
    _pattern(rf"{_START}{_OPENED_LETTER}(?:{_THEN}(?P<text>{_NAME}))?+{_IS_CORRECT}"),
    _pattern(rf"{_START}{_THE}(?P<name>{_MARK})(?:\s?[(]?{_OPTIONAL_WORD}(?P<after>{_LETTER}))?+{_IS_CORRECT}"),
    _pattern(rf"(?:应?选择?|應選|選択|选项(?:是|为)?)\s?:?\s?{_OPTION}"),
    _pattern(
        rf"(?:\A|[\n.,;:!?\s])(?P<letter>{_LETTER})\s?(?:选项|項|项)?\s?(?:是|为|が|가|는|은)?\s?",
        _any("正确|正解|正しい|정답|最可能|最合适|最佳"),
    ),
)
#: More of them in the ten languages: what is right, is chosen, or remains.
STATED += (
    _pattern(
        rf"(?:(?<![{LATIN}\u0400-\u04ff])(?:(?:la|le|el|il|o|a|the|quella|aquella|celle|die|das|lo)\s)?",
        _any(
            r"correct|right|most likely|likeliest|richtig|korrekt|zutreffend|am (?:ehesten"
            r"|wahrscheinlichsten)|correcte|bonne|plus probable",
            r"correct[ao]|buena|mas probable|giust[ao]|corrett[ao]|esatt[ao]|piu probabile|corret[ao]"
            r"|cert[ao]|mais provavel",
            r"правильн(?:о|ый|ая)|верн(?:о|ый|ая)|вероятнее всего",
        ),
        r"(?:\s?:|\s-|\s(?:is|ist|ware|est|es|è|é|seria|это)(?:\s(?:daher|also|donc|quindi|entonces|portanto"
        r"|clearly|therefore))?(?=[\s:]))",
        r"|(?:正确|對|正確)的?(?:选项|答案)?(?:是|为)|最可能的?是|正しい(?:選択肢|答え|の)?は"
        r"|最も可能性が高いのは|(?:맞는|옳은|올바른) (?:것은|답은|보기는)|가장 가능성이 높은 것은",
        rf"|(?<!\w)(?:و|ف)?(?:الصحيح|الأرجح|الصواب|الأكثر احتمالا)(?:\sهو|\sهي|\s?:))\s?{_OPTION}",
    ),
    _pattern(
        r"(?:(?<![\w'])(?:",
        r"ich (?:wahle|nehme|entscheide mich fur)|je (?:choisis|choisirais|retiens|selectionne|prends"
        r"|opte pour)|elijo|elegiria|escojo|selecciono|opto por|me quedo con"
        r"|scelgo|sceglierei|seleziono|opto per|escolho|escolheria|seleciono|fico com|(?:я )?(?:выбираю"
        r"|выберу|выбрал|выбрала)|(?:س)?[أا]ختار|(?:going|i am going|i'm going) with|my choice is|select)",
        rf":?\s|选择?\s?:?\s?|選ぶのは\s?){_SURELY}{_OPTION}",
    ),
    _pattern(
        rf"\bich (?:wurde|werde|mochte) {_THE}{_OPTIONAL_WORD}(?P<letter>{_LETTER})\s(?:wahlen|nehmen|ankreuzen)\b"
    ),
    _pattern(
        rf"(?:\A|[\n.,;:!?\s])(?P<letter>{_LETTER})\s?(?:を\s?(?:選び|選択し|選ぶ|選択|選んだ)|(?:을|를"
        rf"|번을)?\s?(?:선택|고르|고릅|골라|택하|택합))"
    ),
    _pattern(
        r"(?:\A|[\n.,;:!?]\s?|\b(?:so|hence|therefore|also|donc|quindi|portanto|und|et|y|e|и)\s|따라서 |所以"
        r"|そのため)",
        rf"(?:(?:la|le|el|il|a|l'|the|die|o)\s?)?{_OPTIONAL_WORD}(?:(?:الخيار|الإجابة|вариант|ответ|选项"
        rf"|選択肢|보기|선택지)\s?)?(?P<letter>{_LETTER})",
        rf"(?:{_THEN}(?P<text>{_NAME}))?\s?",
        _any(
            r"(?:是)?(?:正确|正確)(?:的)?|对(?=\s?[.,!\n]|\Z)|が正し|が正解|(?:가|이|는|은)?\s?(?:정답|맞|옳)",
            r"(?:esta|é|es|est|è|ist|is) (?:a |la |the |die )?(?:correct[ao]|corret[ao]|corrett[ao]|certa"
            r"|giusta|correcte?|richtig|korrekt|right)(?!\w)",
            r"(?:-\s?|это\s)?(?:правильн(?:ый|о|ая)|верн(?:ый|о|ая)|верен|верна)(?!\w)|(?:هو "
            r"|هي )?(?:ال)?صحيحة?(?!\w)",
        ),
    ),
    _pattern(
        rf"\b(?:ist|lautet|ware) (?:die )?(?:(?:richtige|korrekte|beste|wahrscheinlichste) )?(?:antwort"
        rf"|losung|diagnose)(?: daher| also)? {_OPTION}"
    ),
    _pattern(
        rf"\bist {_THE}{_OPTIONAL_WORD}(?P<letter>{_LETTER}) (?:die )?(?:richtige? ?(?:antwort|losung"
        rf"|option)?|korrekt|am wahrscheinlichsten)(?=\s?(?:[.,;!\n]|\Z))"
    ),
    _pattern(
        r"(?:(?<![\w'])(?:(?:only|just)? ?remains?|leav(?:es|ing)(?: us)?(?: with)?|left with|(?:es |daher "
        r"|also |dann |somit )?bleibt|bleiben|(?:il )?(?:ne )?reste|queda|nos queda|rimane|resta|sobra"
        r"|оста[её]тся|остался"
        r"|(?:و|ف)?[يت]بقى)(?: (?:only|just|nur|noch|also|daher|dann|somit|donc|que|plus que|solo|entonces"
        r"|soltanto|quindi|apenas|so|portanto|только|лишь|فقط|سوى|us with|as|option|antwort)){0,3}:?\s"
        rf"|(?:只|仅|就)?剩下?的?(?:是|只有|就是)?\s?|残るのは\s?|(?:남는|남은) (?:것은|답은|보기는|건)\s?){_OPTION}"
    ),
    _pattern(
        rf"{_START}(?:(?:только|solo|nur|only|seule?|somente|apenas|只有|فقط)\s?)?{_OPENED_LETTER}(?:{_THEN}(?P<text>{_NAME}))?\s?",
        _any(
            r"(?:(?:is|'s) (?:the only (?:one|option|answer) )?(?:left|remaining)|remains?|bleibt(?: ubrig)?"
            r"|reste|queda|rimane|resta|оста[её]тся)(?!\w)(?=\s?(?:[.,;!\n]|\Z))",
            r"(?:のみ|だけ)?(?:が|しか)残(?:る|り)|(?:만|이|가)?\s?남(?:는다|습니다|게|아)",
        ),
    ),
)
#: The same, with less weight: what else the reply names speaks against it.
SAID = (
    _pattern(rf"\bi(?:'d| would)? (?:say|think|believe)(?: that)?(?: {_IT_IS})?:? {_SURELY}{_OPTION}"),
    _pattern(rf"{_START}(?:so |therefore |thus |hence )?{_IT_IS}:? {_SURELY}{_OPTION}"),
    _pattern(
        rf"(?:{_START}|\A)(?:es ist|das ist|es handelt sich um|es|se trata de|è|si tratta di|é|trata-se de"
        rf"|это|应该是|应是|应为|就是|是|إنها|إنه|هو|هي)\s?{_OPTION}"
    ),
)
#: The reply begins with the option.
BEGINNING = _pattern(rf"\A(?:(?:most likely|likely|most probably|probably|definitely|sure)[:,]? )?{_OPTION}")
#: Likewise: "B) signs of glaucoma".
BRACKETED_BEGINNING = _pattern(rf"\A[(\[]?(?P<letter>{_LETTER})[)\]]\s?(?=\w)")
#: "A: The image shows ..." is as likely an answer to a "Q:" as option A.
ANSWER_TO_Q = _pattern(rf"\Aa\s?:\s?[^\s{MARKS}{SYNONYM_MARKS}]")
#: A line that is nothing but options, and the options in it.
LINE = _pattern(
    rf"\A{_THE}{_OPTIONAL_WORD}(?:[(\[]\s?)?(?:{_LETTER}|{_MARK})",
    rf"(?:[\s.,;:)(\]\[-]*(?:{_LETTER}|{_MARK}))*+[\s.!,;:)\]]*\Z",
)
ATOM = _pattern(rf"(?P<letter>{_LETTER})|(?P<name>{_MARK})")
#: Descriptions that name a disease, which answer where nothing else does. They need a subject: "a large cup suggests glaucoma"
#: says nothing of this eye.
SHOWN = _pattern(
    r"(?:\b",
    _any(
        "image|photo|photograph|picture|fundus|retina|scan|patient|he|she|eye|findings?|appearance|features|changes",
        "this|these|which|it",
    ),
    r"\b[^.,;:!?\n]{0,60}?|,\s?)\b",
    _any(
        "shows?|showing|reveals?|demonstrates?|depicts?|displays?|exhibits?|presents? with|has|indicates?"
        "|suggests?|represents?",
        "(?:consistent|compatible|keeping) with|(?:characteristic|typical|indicative|suggestive) of|diagnosed with",
        "suggesting|indicating",
    ),
    r"\s(?:(?:the |clear |typical |characteristic )?(?:signs?|features|evidence|findings|changes|presence)"
    r"\s(?:of|consistent with|typical of)\s)?",
    rf"{_THE}(?:case of )?(?P<name>{_MARK}){_END}",
)
_AND = _any(
    r"[,;/&+>]|\b(?:and|or|vs\.?|versus|then|plus|followed by|with|und|oder|et|ou|y|o|e|или|и)\b|和|或|与|또는|및|と"
)
#: More options named right after one.
ANOTHER = _pattern(
    rf"[)\]]?\s?(?:{_AND}\s?(?:(?:or|and|also|possibly|maybe|perhaps|even)\s)?{_THE}{_OPTIONAL_WORD}[(\[]?",
    rf"(?:(?P<letter>{_LETTER}(?:(?<={_CAPITAL})|{_END}))|(?P<name>{_MARK}))",
    rf"|(?:(?:\.\s|-\s)[(\[]?(?P<after>{_LETTER})|(?:\.\s|-\s|\n)(?P<text>{_MARK})){_END})",
)
#: An option after which anything may follow: no answer, but a rival of one ("The answer is B and the answer is C").
_LOOSE_OPTION = (
    rf"{_THE}{_OPTIONAL_WORD}(?:[(\[]\s?)?(?:(?P<letter>(?!a\b|i\b){_LETTER}|(?-i:A)(?![{LATIN}'/-])"
    rf"(?!\s(?-i:(?!{_any('and|or|but|the|is|because')}\b)[a-z])))|(?P<name>{_MARK}))"
)
RIVALS = (
    _pattern(rf"{_ANSWER}(?P<gap>[^.,;:!?\n()=]{{0,70}}?){_IS}\s?{_SURELY}{_LOOSE_OPTION}"),
    _pattern(
        rf"\bi(?:'d|'ll| would| will| must)? (?:choose|select|pick|go with|opt for|say|think|believe):? {_LOOSE_OPTION}"
    ),
    _pattern(rf"(?:{_START}|\b(?:and|or)\s)(?:so |therefore |thus |hence )?{_IT_IS}:? {_SURELY}{_LOOSE_OPTION}"),
    _pattern(rf"\b(?:therefore|thus|hence|so|in conclusion)[,:]? {_SURELY}{_LOOSE_OPTION}"),
    _pattern(
        r"(?:[.!?\n;]\s?,?\s?|\bbut\s)(?:(?:and|or|but|however|probably|possibly|maybe|also|likely)\b,?\s)*-?\s?",
        rf"{_LOOSE_OPTION}(?=[)\]]?\s?(?:[,;!]|\.?\s?(?:\Z|\n)|\s(?:because|since|as)\b))",
    ),
)
RIVAL_BEGINNING = _pattern(
    rf"\A(?:(?:most likely|likely|probably)[:,]? )?(?![oeyuèé]\s(?-i:[a-z])){_LOOSE_OPTION}",
    r"(?!\s(?:is|are|was|were|would|shows?|has|can|could|may|might|seems?|looks?)\b|选项)",
)
#: "A, C and D are wrong".
RULED_OUT = _pattern(
    rf"(?:\b(?:both|options?|answers?|choices?)\s)?(?<![{LATIN}'°/-])(?-i:[A-D])",
    r"(?:(?:\s?,|\s?&|\s(?:and|or)){0,2}\s(?-i:[A-D])\b){0,4}",
    r"\s(?:is|are|was|were|can be|would be)\s(?:(?:all|both|also|clearly|therefore|most|very|likely|probably"
    r"|definitely)\s){0,3}",
    rf"(?!possible\b)(?:{REJECTED.pattern})(?:(?!\s(?:so|but|hence|thus|therefore|leaving|which|and)\b)[^.,;:!?\n]){{0,80}}",
)
#: A letter that means an option, whatever is said of it.
MENTIONED = _pattern(
    rf"\b(?:option|choice|answer)\s[(]?{_LETTER}|(?<![{LATIN}'°/-])(?-i:[B-D]|A(?=\s",
    _any("is|has|shows|and|or|was|would|can"),
    rf"\b|[.,;:)]|\s?\Z|[^\x00-\x7f\s])|(?<=[a-zа-я\u0600-\u06ff,]\s)A(?=\s))(?![{LATIN}'/-])",
)
#: Behind the letter of another option: a list says why it is not the answer, or it "cannot be ruled out".
EXPLAINED = _pattern(rf"[.:)]\s?{_NAME}(?:\s?[:(-]|\s[a-z])|\s(?:can ?not|can't) be (?:ruled out|excluded)\b")
#: Beginnings of the entries of a list of options.
ENUMERATED = _pattern(
    rf"(?P<letter>(?-i:(?<![{LATIN}'°/-])[A-H])|(?:(?<=[\n.,;(])|(?<=[.,;] )|\A){_LETTER})",
    r"\s?(?:[.):\]](?=[^\S\n]?\S)|,(?=[^\x00-\x7f]))",
)
#: The four options repeated in order, as asked.
RESTATED = _pattern(
    r"[\s,;.]*".join(rf"[(\[]?{letter}{_THEN}{mark}" for letter, mark in zip(LETTERS, MARKS, strict=False))
)
