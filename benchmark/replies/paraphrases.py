"""Other words for options, in ten languages, that can contradict the letter beside them. They never answer.

"B. Healthy fundus" is no answer where Health is option D.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

#: What an option's name holds (without accents, in lower case), and what else means it. Text is compared without accents.
_MEANINGS: tuple[tuple[str, str], ...] = (
    (
        r"\bhealth|^normal",
        r"\b(?:healthy|normal(?!\w*i[sz])\w*|unremarkable|no (?:\w+ )?(?:abnormalit\w+|patholog\w+|disease"
        r"|finding\w*|anomal\w+)|gesund\w*|unauffallig\w*|keine? (?:krankheit|befund|auffallig\w+)"
        r"|sain[es]*|sante|aucune (?:anomalie|maladie|pathologie)|san[oa]s?|salud\w*|sin (?:alteracion\w*"
        r"|patologia\w*|anomalia\w*|hallazgos)|salute|nessuna (?:anomalia|patologia|malattia)"
        r"|saudave\w+|saude|sem (?:alterac\w+|patologia|anomalia\w*))\b|здоров|норм|без патолог|正常|健康"
        r"|无异常|無異常|未见异常|異常な|정상|건강|이상 ?없|سليم|طبيعي|صحي(?!ح)",
    ),
    (
        r"(?<!no )glaucoma|cupping",
        r"\b(?:glau[ck]om\w*|gruner star|(?:large|enlarged|increased) (?:cup|c/d)\w*|cupping)|глауком|青光眼"
        r"|緑内障|녹내장|جلوكوما|الزرق|غلوكوما|المياه الزرقاء",
    ),
    (
        r"cataract",
        r"\b(?:[ck]atara[ck]t\w*|catarat\w+|grauer star|lens opaci\w+|cloudy lens)|катаракт|白内障|백내장|إعتام"
        r"|الساد|المياه البيضاء|كتاركت",
    ),
    (r"diabet", r"\b(?:diabet\w+|npdr|pdr|zucker\w+)|диабет|糖尿|糖网|당뇨|سكر"),
    (r"drusen", r"\b(?:drusen\w*|drusas?|druses?|druse)\b|друз|玻璃膜疣|ドルーゼン|드루젠|دروزن|براريق"),
    (
        r"macular degeneration",
        r"\b(?:d?amd|armd|dmla|dmae|dmri|dmle|dmrI|makuladegeneration|degenerati?on maculaire"
        r"|degeneracion macular|degenerazione maculare|degeneracao macular)\b|макул\w* дегенер|дегенер\w* макул"
        r"|вмд|黄斑变性|黄斑変性|황반변성|التنكس البقعي|تنكس",
    ),
    (
        r"myopi",
        r"\b(?:myop\w+|miop\w+|nearsight\w*|short-?sight\w*|kurzsicht\w*)|миоп|близорук|近视|近視|근시|قصر النظر"
        r"|حسر",
    ),
    (
        r"hypertens",
        r"\b(?:h?[yi]pertens\w+|ipertens\w+|hipertens\w+|bluthochdruck\w*|high blood pressure)|гиперт|高血压"
        r"|高血圧|고혈압|ارتفاع ضغط|ضغط الدم",
    ),
    (
        r"detachment",
        r"\b(?:detach\w+|netzhautablosung|ablatio|amotio|decollement\w*|desprendimiento|distacco|descolamento)"
        r"|отсло|脱离|剥離|剥离|박리|انفصال",
    ),
    (r"branch\w* retinal vein", r"\b(?:brvo|branch\w*|venenast\w*|branche|rama|ramo|branca)\b|ветв|分支|分枝|분지|فرع"),
    (
        r"central retinal vein",
        r"\b(?:crvo|zentralvenen\w*|zvv|central vein|veine centrale|vena central|vena centrale|veia central)\b"
        r"|центральн\w* вен|中央静脉|中心静脈|중심정맥|중심망막정맥|الوريد المركزي",
    ),
    (
        r"central retinal artery",
        r"\b(?:crao|zentralarterien\w*|artere centrale|arteria centrale?)\b|центральн\w* артер|中央动脉|中心動脈"
        r"|동맥",
    ),
    (r"central serous", r"\b(?:csr|csc|csco?r|serous|serose?|sereuse|serosa)\b|сероз|浆液|漿液|장액|مصلي"),
    (r"epiretinal", r"\b(?:erm|epiretinal\w*|pucker|gliose)\b|эпиретин|前膜|上膜|망막전막|غشاء"),
    (r"macular hole", r"\b(?:hole|makulaloch|foramen|trou|agujero|foro|buraco)\b|разрыв|裂孔|円孔|원공|ثقب"),
    (
        r"macular edema",
        r"\b(?:macular (?:edema|swelling|thickening)|makulaodem|odeme maculaire|edema macular|edema maculare)\b"
        r"|отек макул|макул\w* от[её]к|黄斑水肿|黄斑浮腫|황반부종|وذمة",
    ),
    (
        r"optic dis[ck] edema",
        r"\b(?:papill?edema|swollen (?:optic )?(?:disc|disk|nerve)|disc swelling|papillenodem\w*|stauungspapille"
        r"|oedeme papillaire|edeme papillaire|edema (?:de )?papil\w*)\b|застойн|视盘水肿|视乳头水肿|乳頭浮腫"
        r"|유두부종",
    ),
    (
        r"pallor",
        r"\b(?:pale (?:optic )?(?:disc|disk|nerve)|optic atrophy|blass\w*|atrophie\w*|palidez|pallore|palidez)\b"
        r"|бледн|атроф|苍白|蒼白|萎缩|창백|شحوب",
    ),
    (
        r"media haze",
        r"\b(?:haz[ey]|vitreous opacit\w+|trubung\w*|opacite\w*|opacidad\w*|opacita|opacidade\w*)\b|помутн|混浊"
        r"|混濁|혼탁|عتامة",
    ),
    (r"hemorrhag", r"\b(?:bleeding|hemorrhag\w*|blutung\w*|hemorragi\w*|emorragi\w*)|кровоизл|出血|출혈|نزف|نزيف"),
    (r"laser", r"\blaser\w*|лазер|激光|レーザー|레이저|ليزر"),
    (r"pigmentosa", r"\b(?:pigmentos\w*|pigmentaire|pigmentar\w*)|пигментн|色素变性|色素変性|색소변성|صباغي"),
    (r"cotton wool", r"\b(?:cotton\w*|exsudats? cotonneux|algodonos\w*|cotonos\w*)|ватообраз|棉絮|綿花|면화|قطن"),
    (r"tessellat", r"\b(?:tessell?at\w+|tigroid\w*)|豹纹|紋理眼底|紋理"),
    (r"neovascular", r"\b(?:neovascul\w*|neovaz\w*|new vessels|cnv)\b|неоваск|新生血管|신생혈관|أوعية جديدة"),
    (r"artery|arterio", r"\barteriosc\w*|артериоскл|动脉硬化|動脈硬化|동맥경화|تصلب الشرايين"),
)
_WORD = re.compile(r"[a-z]{4,}")
_STEM = 6
#: Words that many names share say little.
_COMMON = frozenset(
    (
        "retina",
        "retino",
        "macula",
        "optic",
        "disc",
        "disk",
        "other",
        "diseas",
        "with",
        "left",
        "right",
        "eye",
        "age",
        "relate",
        "signs",
        "this",
        "that",
        "fundus",
    )
)
_LONGEST = 8  # words: behind a letter, more are a sentence about the image


@lru_cache
def _meanings() -> tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]:
    return tuple((re.compile(name), re.compile(words, re.IGNORECASE)) for name, words in _MEANINGS)


def likest(behind: str, options: Sequence[str]) -> frozenset[int]:
    """Options that the words right behind a letter are likest to; none where they are like no option, or a whole sentence.

    Args:
        behind: plain text behind a statement by letter.
        options: the names of the options.
    """
    beside = re.split(
        r"[.,;:!?\n)(]|\b(?:because|since|as|not|no(?= evidence))\b", _plain(behind.lstrip(" .:,)]-=(>"))
    )[0]
    if not beside or len(beside.split()) > _LONGEST:
        return frozenset()
    scores = [_likeness(beside, _plain(name)) for name in options]
    return frozenset(place for place, score in enumerate(scores) if score == max(scores) > 0)


def _likeness(words: str, name: str) -> int:
    """How much words have in common with a name: shared stems, and two for each meaning."""
    stems = {word[:_STEM] for word in _WORD.findall(words)} & {word[:_STEM] for word in _WORD.findall(name)}
    meant = sum(bool(said.search(words)) for named, said in _meanings() if named.search(name))
    return len(stems - _COMMON) + 2 * meant


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text.lower())
    kept = (char for char in decomposed if not "\u0300" <= char <= "\u036f" or char == "\u0306")
    return unicodedata.normalize("NFC", "".join(kept))
