"""The words behind an answer that take it back, in ten languages."""

import re


def _behind(words: tuple[str, ...], strings: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w'])(?:{'|'.join(words)})(?!\w)[\s,.:!-]*|(?:{strings})[\s,.:!-]*", re.IGNORECASE)


#: A correction, behind which another answer may stand.
RETRACTED = _behind(
    (
        r"wait|hold on|hang on|on (?:second thoughts?|(?:further |careful )?reflection|closer (?:look"
        r"|inspection|examination)|reconsideration)|scratch that|strike that",
        r"correction|corrected|i was wrong|i made (?:a mistake|an error)|i misspoke|let me re\w+"
        r"|reconsidering|i take (?:that|it) back|i retract|never ?mind|forget that",
        r"actually|i mean|i meant|no,(?= )|nope|no wait|or rather|better|oops|sorry|my (?:mistake|bad)"
        r"|i(?:'ve| have)? changed? my (?:mind|answer)|hmm|but no|make that",
        r"after all|looking again|in hindsight|thinking (?:about it )?again|that's not right|upon (?:further "
        r"|closer )?\w+|changing (?:it|this|my answer) to|revised",
        r"nein|moment|warte|halt(?=[,!.])|stopp?|doch (?:eher|lieber)|oder (?:doch|eher|besser|vielmehr)"
        r"|besser gesagt|vielmehr|korrektur|ich korrigiere\w*|eigentlich|quatsch|ich meine|ich meinte"
        r"|genauer gesagt|ich habe mich geirrt|entschuldigung|pardon|bei (?:naherem|genauerem|genauer)\w* \w+"
        r"|tatsachlich|nochmals? uberlegt|nach (?:nochmaligem|reiflicher) \w+|zuruck",
        r"non,(?= )|attend(?:s|ez)|plutot(?! qu)|correction|je (?:me )?corrige|en fait|enfin|je veux dire"
        r"|je voulais dire|reflexion faite|(?:a|apres) (?:la )?reflexion|en y (?:repensant|reflechissant)"
        r"|je me (?:suis )?tromp\w+|rectification|finalement|non non|en realite|excusez-moi|a bien y",
        r"esper[ae]|mejor dicho|mejor|perdon|correccion|corrijo|me corrijo|rectifico|digo|mas bien"
        r"|en realidad|pensandolo (?:bien|mejor)|me (?:he )?equivoq?u\w+|quiero decir|tras reflexionar|o sea",
        r"anzi|aspett[ai]|scus[ai]|mi correggo|correzione|o meglio|ripensandoci|in realta|volevo dire"
        r"|mi sbagliavo|mi sono sbagliat[oa]|ho sbagliato|pensandoci|piuttosto(?! che)|rettifico"
        r"|a pensarci bene",
        r"nao,(?= )|alias|espere|ou melhor|correcao|desculp[ea]|na verdade|pensando (?:bem|melhor)|quer dizer"
        r"|quero dizer|me enganei|enganei-me|retifico|repensando|alias nao|melhor dizendo",
        r"нет|подожди\w*|постойте|стоп|точнее|вернее|поправ\w+|исправ\w+|простите|извините|на самом деле|ой"
        r"|скорее|если подумать|подумав|ошиб(?:ся|лась)|хотя нет|беру (?:свои )?слова|пардон",
        r"انتظر|بل|بالأحرى|تصحيح|عفوا|لا,|في الواقع|أقصد|أعني|بعد التفكير|آسف|أصحح|كلا",
    ),
    r"不对|不,|啊不|哦不|等等|等一下|更正|纠正|说错|我错了|改为|改成|应该说|准确地说|仔细(?:一)?想|再想"
    r"|重新考虑|其实|实际上|抱歉|我收回|慢着"
    r"|いや,?|いえ,|いいえ|待って|待てよ|訂正|すみません|失礼|間違えました|やっぱり|やはり|というより"
    r"|ではなくて|よく考える|考え直|実は|正確には"
    r"|(?<=[.,!?\s])아니(?:요|오|야|지|,|\.|\s)|잠깐|잠시만|정정|다시 (?:생각|보니)|죄송|수정|사실은|아니다"
    r"|실은|생각해 ?보니",
)
_ANAPHORA = (
    r"(?:\b(?:that|this|it|which)(?:'s| is| was| would be| can't| cannot| isn't| must be| may be| might be"
    r"| seems| does|) (?:\w+ ){0,3}?(?:wrong|incorrect|false|mistake\w*|error|untrue|not (?:right|correct"
    r"|true|so|certain|sure|it|the (?:right|correct|answer|case|best)|a (?:good|correct|right))|right\?"
    r"|doubtful"
    r"|uncertain|guess|unlikely|impossible|nonsense|be right)|\bn't (?:right|correct|true)|\bi (?:doubt"
    r"|don't (?:know|believe|think)|am (?:not|guessing)|could be wrong|may be wrong|might be wrong"
    r"|can't be sure|guess)"
    r"|\bi'm (?:not|just guessing|guessing|kidding|joking)|\bnot (?:really |entirely |completely "
    r"|at all )?(?:sure|certain|true|correct|right)\b|\bjust (?:a guess|guessing|kidding|joking)|\b(?:is"
    r"|was) (?:a|the) (?:wrong|common|typical|usual|frequent) (?:answer|mistake|error)"
    r"|\b(?:das|dies|es) (?:ist|ware|war|stimmt|kann) (?:\w+ ){0,3}?(?:falsch|nicht (?:richtig|korrekt|sicher"
    r"|wahr|so|die)|unsinn|fehler|irrtum|unsicher|geraten)|\bstimmt nicht|\bich (?:bin (?:mir )?(?:nicht|un)"
    r"|bezweifle|zweifle|glaube (?:das )?nicht|weiss (?:es )?nicht)"
    r"|\b(?:c'|cela |ce )(?:est|serait|n'est) (?:\w+ ){0,2}?(?:fau(?:x|sse)|incorrect|erreur|pas (?:correct"
    r"|vrai|juste|sur|ca|la bonne|exact|bon)|inexact)|\bje (?:ne (?:suis|sais)|n'en suis) pas|\bj'en doute|\bje doute"
    r"|\b(?:eso|esto) (?:no )?(?:es|seria|esta) (?:\w+ ){0,2}?(?:incorrecto|falso|error|mal|correcto"
    r"|equivocado|cierto)|\bno (?:estoy|lo) (?:segur\w|creo|se)|\bno es (?:correcto|cierto|asi)|\blo dudo|\beso no"
    r"|\bes (?:incorrecto|falso|un error)"
    r"|\b(?:questo|cio|è|non è) (?:è |un )?(?:\w+ )?(?:sbagliat\w|fals\w|errore|errat\w|scorrett\w|corrett\w"
    r"|giust\w|vero)|\bnon (?:ne )?sono (?:sicur|cert)\w|\bne dubito|\bdubito"
    r"|\b(?:isso|isto) (?:nao |esta |é )*(?:\w+ )?(?:errad\w|fals\w|erro|incorret\w|corret\w|cert\w)|\bnao (?:tenho certeza"
    r"|estou cert\w|sei|esta corret\w|é isso)|\bduvido|\bisso nao(?: esta| é)? (?:cert|corret|verdad|isso)|\besta errad\w"
    r"|это (?:\w+ )?(?:не (?:так|верно|то|правда|правильн\w*)|неверно|ошибк\w+|неправильно|неправда)"
    r"|я (?:не (?:уверен\w*|знаю|думаю)|сомневаюсь)|\bневерно|\bнеправильно"
    r"|这(?:个)?(?:答案)?(?:是)?(?:不对|不正确|不是(?:正确|对|答案)|错|有误)|不对|不是这样|错了|我不(?:确定"
    r"|知道)|不正确|说错|那是错|是错的|并不对|说法"
    r"|違(?:い|う|っ)|間違(?:い|え|っ)(?!なく)|誤り|そうではな|それは(?:な|正しくな)|自信がな|自信はな"
    r"|わかりませ|分かりませ|正しくな"
    r"|틀렸|틀린|틀리|아닙니다|아니다|아니에|잘못|확실하지|확신|모르겠|맞지 않"
    r"|هذا (?:غير صحيح|خطأ|ليس (?:صحيح|الجواب|الإجابة)|خاطئ)|لست (?:متأكد|واثق)|أشك|لا أعتقد|غير صحيح|خاطئ)"
)
#: A sentence behind an answer that denies it or leaves it open.
DISOWNED = re.compile(_ANAPHORA, re.IGNORECASE)
