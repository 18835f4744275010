"""The words of ten languages by which a sentence does not state its answer: doubt, conditions, and what others say or get wrong.

They hold for the whole sentence, wherever they stand in it. Words without spaces between them are searched as strings.
"""

import re

_DOUBT = (
    # English
    r"doubt\w*|dubious\w*|sceptic\w*|skeptic\w*|unconvinced|unsure|uncertain|disagree\w*|den(?:y|ied|ies)"
    r"|refut\w+|disput\w+|hesita\w+"
    r"|(?:not|\w*n't|never|hardly|cannot) (?:\w+ ){0,2}(?:sure|certain|convinced|confident|believe|think|say"
    r"|agree|true|buy|see how|see why|accept)"
    r"|hard to (?:say|believe|see)|far from|if|whether|unless|assuming|suppos(?:e|ing|edly)|provided|guess\w*"
    r"|perhaps|maybe|possibly|would have"
    r"|(?:might|may|could) (?:well )?be|untrue|false|hypothetical\w*|questions? (?:that|whether)|questionable"
    r"|(?:is|was|'s|it) ?n't (?:so|right)|wonder\w*|nobody|no one|no-one|pretend\w*",
    # German
    r"zweif\w+|bezweif\w+|unsicher|(?:nicht|kaum) (?:\w+ )?(?:sicher|uberzeugt|glaub\w*|denk\w*|mein\w*)"
    r"|(?:glaube|denke|meine) (?:ich )?(?:nicht|kaum)|vielleicht"
    r"|moglicherweise|eventuell|konnten?|wenn|falls|ob|angenommen|schwer zu sagen|kaum|stimmt nicht"
    r"|trifft nicht zu|niemand|bestreite\w*|sofern|unwahr"
    r"|vermutungs\w*|fraglich|frage mich",
    # French
    r"(?<!sans )(?<!aucun )doute\w*|pas (?:\w+ )?(?:sur|sure|certaine?|convaincue?|vrai|d'accord)|peut-etre"
    r"|peut etre|pourrai\w+|incertaine?|hesit\w+|improbable|si (?=la |le |l'|c'|on |elle |ils? |les |je "
    r"|vous |nous |aucun)"
    r"|(?:ne )?(?:crois|pense) pas|supposons|a condition|personne ne|(?:il|c'|ce) ?(?:est|serait) faux"
    r"|conteste\w*|refuse\w*",
    # Spanish
    r"dud[aoe]\w*|no (?:estoy|creo|pienso|considero|dir[ií]a|parece)|quiza\w*|tal vez|acaso|a lo mejor|podria\w*"
    r"|puede (?:que|ser)|incierto|supong\w+|supuest\w+|si (?=la |el |no |hay |hubiera |fuera |los |las |se "
    r"|esto |es )"
    r"|es falso|no es (?:cierto|verdad)|nadie|discrep\w+|niego",
    # Italian
    r"dubit\w+|dubbi\w*|non (?:sono|credo|penso|direi|ritengo|mi sembra)|forse|potrebbe\w*|magari|incert[ao]"
    r"|se (?=la |il |l'|non |ci |fosse |c'|lo |le |i |gli |questo |è )|è falso|non è vero|nessuno|nego"
    r"|puo darsi"
    r"|ammesso che|suppon\w+",
    # Portuguese
    r"duvid\w+|nao (?:tenho|estou|acho|creio|acredito|penso|diria|me parece)|talvez|poderia\w*|pode (?:ser"
    r"|que)|incert[ao]|se (?=a |o |nao |ha |houver |fosse |as |os |isso )|é falso|nao é (?:verdade|certo)"
    r"|ninguem|discord\w+|quica",
    # Russian
    r"сомн[еи]\w+|не (?:уверен\w*|думаю|считаю|верю|согласен|согласна|верно|правда)|вряд ли|едва ли"
    r"|может быть|может|возможно|маловероятн\w*|если|верно ли|ли|никто|допустим|предположим|неверно|неправда"
    r"|наверное"
    r"|сложно сказать|трудно сказать|якобы|отрица\w+",
    # Arabic
    r"(?:و|ف)?(?:[أا]شك\w*|شك|ربما|قد|لست|لا (?:أعتقد|أظن|أرى|أوافق)|[إا]ذا|لو|مشكوك|غير (?:متأكد|واثق|صحيح)"
    r"|ليس صحيحا?|ليس من الصحيح|هل|لا أحد|أستبعد|لعل|بشرط|محتمل|الشك)",
)
_DOUBT_IN_STRINGS = (
    # Chinese
    "怀疑|懷疑|不确定|不確定|不敢|不认为|不認為|不觉得|不相信|不同意|也许|也許|或许|或許"
    "|(?<!最)(?<!最有)可能(?!性)|如果|假如|假设|若是|要是|除非|难以|恐怕|质疑|存疑|难说|不见得|未必|不一定"
    "|是否|没有人|没人|否认|猜"
    # Japanese
    "|疑|確信(?:が|は)?(?:持|な)|かもしれ|思わな|思いません|思えな|思えません|わから|分から|分かり|自信が"
    "|もし|とは限|場合|かどうか|たぶん|多分|おそらく|ならば|とすれば|とは言え|とは言いにく|とは考えにく"
    "|とは考えら|同意"
    # Korean
    "|의심|확신|모르겠|일지도|수도 있|만약|만일|의문|않(?:습|다|는|아)|라면|이면|다면|인지|아닐|글쎄|어쩌면|아마|동의"
)
_SAY = (
    r"(?:say|think|believ|argu|claim|assum|suggest|choos|chose|pick|answer|guess|opt|select|call|conclud|consider"
    r"|insist|read|report|vot|prefer|fall for|go for|go with|tend|mistak|suspect|expect|tell|told|said|thought"
    r"|might|would|could)\w*"
)
_HEARSAY = (
    # English
    r"mistak\w*|error\w*|erroneous\w*|misconception\w*|misread\w*|misdiagnos\w*|misjudg\w*|misled|misleading\w*"
    r"|fallacy|myth|trap|pitfall|tempt\w+|naive\w*|careless\w*|lazy|fool\w*"
    r"|(?:says|said|thinks|believes|believed|claims|claimed|argues|argued|assumes|assumed|insists|holds"
    r"|maintains|told|suggested|alleged\w*|supposed\w*|reportedly|purported\w*)"
    rf"|(?:some|many|most|several|others?|people|students?|residents?|trainees?|readers?|clinicians?|doctors?"
    rf"|colleagues?|experts?|everyone|everybody|someone|somebody|one|you|they|he|she|beginners?|novices?"
    rf"|textbooks?|models?|physicians?) (?:\w+ ){{0,3}}?{_SAY}"
    r"|according to|it is (?:\w+ )?(?:said|believed|thought|assumed|claimed)|(?:at|on) first|initial(?:ly)?"
    r"|originally|first (?:glance|impression|thought|guess|sight|instinct|reaction|look)"
    r"|i (?:first|initially|originally|used to|would have|was going to|was about to|almost|nearly)|i thought"
    r"|previously|superficial\w*|on the surface|wrong(?:ly)?|incorrect(?:ly)?|distractor|joke|joking|kidding"
    r"|for example|e\.g\.|format",
    # German
    r"fehler\w*|irrtum\w*|irrtumlich\w*|irrig\w*|irrefuhr\w+|falschlich\w*|falsch|verlockend\w*|verfuhrerisch"
    r"|versuchung|trugschluss|falle|angeblich|vermeintlich\w*|behaupt\w+|sagt|sagen|meinen|meint|denken|denkt"
    r"|glauben|glaubt|halten|hielten|tippen|tippt"
    r"|wurden|(?:manche|viele|einige|andere|mancher|die meisten|jemand|man) (?:\w+ ){0,2}(?:wurde|wurden"
    r"|wahlen|wahlt|nehmen|antworten|antwortet|konnte)|laut|zufolge|zunachst|anfangs|anfanglich"
    r"|auf den ersten blick|ursprunglich|oberflachlich|dachte|heisst es|heißt es|zuerst",
    # French
    r"erreur\w*|erron\w+|pieg\w+|certain(?:e?s) (?:\w+ ){0,2}\w+(?:ent|raient)|beaucoup (?:\w+ ){0,2}\w+ent"
    r"|on pourrait|on dit|a tort|fausse\w*|faux|tentant|tente(?:r|e)? de|d'abord|au premier abord"
    r"|premiere vue|premier coup|pretend\w*|selon|d'apres"
    r"|disent|dirai(?:en)?t|dit que|pensent|pense que la plupart|croient|affirm\w+|estiment|repond(?:ent"
    r"|raient)|initialement|au depart|je pensais|je croyais|j'aurais|confusion|idee recue|mauvaise",
    # Spanish
    r"error\w*|errone\w+|equivoc\w+|engan\w+|dicen|diria[ns]?|dice que|piensan|creen|creeria\w*|afirm\w+"
    r"|sostien\w+|opinan|responden|responderian|elegirian|tentador\w*|tentacion|trampa|segun|al principio"
    r"|primera vista|en un principio|inicialmente|pense que|pensaba|creia|incorrect[oa]|fals[oa]|confusion"
    r"|mucha gente|hay quien",
    # Italian
    r"error[ei]|erron\w+|sbagli\w*|dicono|direbb\w+|dice che|pensano|pensereb\w+|credono|affermano|afferma"
    r"|sostengono|sostiene|ritengono|rispond(?:ono|erebbero)|sceglierebb\w+|trappola|tranello"
    r"|secondo (?:alcuni|molti|il|la|lo|gli|i)|all'inizio|prima vista|di primo acchito|inizialmente|pensavo"
    r"|credevo|avrei|allettante|tentazione|tentat[oi]|errat[oa]|scorrett[oa]|c'è chi",
    # Portuguese
    r"erros?|erron\w+|errad[oa]|engan\w+|equivoc\w+|dizem|diria[m]?|diz que|pensam|acham|acreditam|afirm\w+"
    r"|sustentam|respond(?:em|eriam)|escolheria[m]|armadilha|segundo (?:alguns|muitos|o|a)|a principio"
    r"|primeira vista|inicialmente|de inicio|pensei|pensava|achava|achei|tentador\w*|tentacao|incorret[oa]"
    r"|fals[oa]|ha quem",
    # Russian
    r"ошиб\w+|говорят|говорит|сказал\w*|думают|думает|думал\w*|считают|считает|считал\w*|полага(?:ют|ет)"
    r"|утвержда\w+|верят|ответ(?:ят|или|ил)|выбира(?:ют|ет)|выб(?:рали|ерут)|заблужд\w+|ловушк\w*|соблазн\w*"
    r"|сначала|взгляд|поначалу|изначально|первоначально|согласно|по мнению|по словам|ложн\w+|неверн\w+"
    r"|неправильн\w+|кажется",
    # Arabic
    r"(?:و|ف)?(?:(?:ال)?خطأ|(?:ال)?أخطاء|(?:ال)?خاطئ\w*|البعض|بعض(?:هم)?|الكثير\w*|كثير\w*|[يت]عتقد\w*|[يت]ظن\w*"
    r"|[يت]قول\w*|قال\w*|يزعم\w*|يدعي|شائع\w*|الشائع\w*|في البداية|للوهلة|فخ|الفخ|حسب|وفقا|زميلي|الطلاب|كنت"
    r"|المغري|يخطئ\w*)",
)
_HEARSAY_IN_STRINGS = (
    # Chinese
    "误|誤|错|錯|有人|很多人|许多人|许多学生|不少人|有些人|人们|别人|他人|容易|起初|最初|一开始|开始时|乍看"
    "|乍一看|第一眼|表面上|原以为|本以为|原本|据说|有的|同事|学生|医生说|认为答案|陷阱|诱|干扰项|大家|看似"
    "|不正确|不对|假的|不是真"
    # Japanese
    "|間違(?!いなく)|誤り|誤解|誤答|誤っ|誤認|よくある|多くの人|多くの学生|一部の人|人も|人が|人は|と言われ"
    "|という人|という意見|最初は|最初に|当初|はじめは|初めは|一見|勘違い|学生|がち|同僚|らしい|によれば"
    "|によると|錯覚|罠|と思っていた|と思った|正しくな|というのは"
    # Korean
    "|실수|오류|잘못|오해|흔히|사람들|사람은|사람이|학생|일부|처음에|언뜻|얼핏|첫눈에|착각|라고들|동료|함정"
    "|유혹|라고 (?:말|하|주장|생각)|다고 (?:말|하|주장)|따르면|틀렸|틀린|틀리|원래|줄 알았"
)


def _sentence_words(words: tuple[str, ...], strings: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w'])(?:{'|'.join(words)})(?:(?<=\s)|(?!\w))|{strings}", re.IGNORECASE)


#: In the sentence of a statement, on either side of it: it is doubted, or holds only on a condition.
DOUBTED = _sentence_words(_DOUBT, _DOUBT_IN_STRINGS)
#: Likewise: it is what others say, what seems so at first, or an error.
HEARSAY = _sentence_words(_HEARSAY, _HEARSAY_IN_STRINGS)
#: Where verbs stand last: behind a statement, it is denied.
DENIED_LAST = re.compile(
    "ではな|ではあり|じゃな|でな(?:い|く)|アりません|ありません|ません|ない(?=\\s?[.\\n]|\\Z)|아니|아닙|않"
    "|지 못|(?<!의심할 여지 )없(?:다|습)|不是|不对|吗|嗎|是错|नहीं|değil"
    "|\\b(?:nicht|n'est pas|no es|non è|nao é|не)\\b(?=[^,;]{0,20}$)",
    re.IGNORECASE,
)

#: Right before a statement: it hangs on a clause, which only those of `MEANT` make the model's own.
HANGING = re.compile(
    r"(?<!\w)(?:(?:that|dass|daß|que|che|что|أن|إن|بأن)\s(?:l'|[\w']+\s){0,4})\Z"
    r"|(?:说|說|表明|证明|写着|写道|以为|认为|相信|觉得|回答|答|声称)(?:正确)?\Z",
    re.IGNORECASE,
)
MEANT = re.compile(
    r"\b(?:i (?:\w+ )?(?:think|believe|say|conclude|am (?:sure|confident|certain))|i'm (?:sure|confident"
    r"|certain)|clear|evident|obvious|follows|means?"
    r"|suggests?|indicates?|shows?|confirms?|supports?|concludes?|know|likely|so)\b"
    r"|\b(?:je (?:pense|crois|dirais|conclus|suis (?:sur|certain)e?)|clair|evident|montre\w*|donc|parce"
    r"|puisque|est-ce)\b"
    r"|\b(?:creo|pienso|diria|concluyo|claro|porque|ya|asi|opino|considero|estoy segur\w)\b|\b(?:penso|credo"
    r"|direi|ritengo|chiaro|concludo|perche|poiche)\b"
    r"|\b(?:acho|acredito|penso|diria|concluo|claro|ja)\b|\b(?:ich|klar|sodass|so)\b|\bя\b|ясно|очевидно"
    r"|потому|так|我|أعتقد|أظن|أرى|لأن|حيث|الواضح",
    re.IGNORECASE,
)
