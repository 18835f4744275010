"""Replies made from styles (`replies_styles.txt` and its like): up to fifteen languages, the answer of each known beforehand."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mgll.vocabulary.questions import LETTERS

#: Four options, and for each what else it is called, by language; "en" stands in where a language has nothing.
OPTION_SETS: tuple[dict[str, dict[str, tuple[str, ...]]], ...] = (
    {
        "Glaucoma": {
            "en": ("Glaucomatous optic neuropathy", "Glaucomatous cupping"), "de": ("Glaukom", "Grüner Star"),
            "fr": ("Glaucome",), "zh": ("青光眼",), "ja": ("緑内障",), "ru": ("Глаукома",), "ko": ("녹내장",),
            "ar": ("الجلوكوما", "الزرق"),
        },
        "Cataract": {
            "en": ("Cataractous lens",), "de": ("Katarakt", "Grauer Star"), "fr": ("Cataracte",), "es": ("Catarata",),
            "it": ("Cataratta",), "pt": ("Catarata",), "zh": ("白内障",), "ja": ("白内障",), "ru": ("Катаракта",),
            "ko": ("백내장",), "ar": ("إعتام عدسة العين", "الساد"),
        },
        "Diabetic Retinopathy": {
            "en": ("Diabetic eye disease", "Retinopathy due to diabetes"), "de": ("Diabetische Retinopathie",),
            "fr": ("Rétinopathie diabétique",), "es": ("Retinopatía diabética",), "it": ("Retinopatia diabetica",),
            "pt": ("Retinopatia diabética",), "zh": ("糖尿病视网膜病变",), "ja": ("糖尿病網膜症",),
            "ru": ("Диабетическая ретинопатия",), "ko": ("당뇨망막병증",), "ar": ("اعتلال الشبكية السكري",),
        },
        "Health": {
            "en": ("Healthy fundus", "Normal fundus", "A healthy eye", "No abnormality"), "de": ("Gesunder Fundus", "Normalbefund"),
            "fr": ("Fond d'œil normal", "Œil sain"), "es": ("Fondo de ojo normal", "Ojo sano"),
            "it": ("Occhio sano", "Fondo normale"),
            "pt": ("Olho saudável", "Fundo normal"), "zh": ("正常眼底", "健康"), "ja": ("正常", "健康な眼底"),
            "ru": ("Здоровый глаз", "Норма"), "ko": ("정상", "건강한 눈"), "ar": ("عين سليمة", "طبيعي"),
        },
    },
    {
        "Age-related Macular Degeneration": {
            "en": ("Senile macular degeneration", "AMD"), "de": ("Altersbedingte Makuladegeneration",),
            "fr": ("Dégénérescence maculaire liée à l'âge", "DMLA"), "es": ("Degeneración macular asociada a la edad",),
            "it": ("Degenerazione maculare legata all'età",), "pt": ("Degeneração macular relacionada à idade",),
            "zh": ("年龄相关性黄斑变性",), "ja": ("加齢黄斑変性",), "ru": ("Возрастная макулярная дегенерация",),
            "ko": ("나이관련 황반변성", "황반변성"), "ar": ("التنكس البقعي",),
        },
        "Myopia": {
            "en": ("Myopic fundus", "Nearsightedness"), "de": ("Kurzsichtigkeit",), "fr": ("Myopie",), "es": ("Miopía",),
            "it": ("Miopia",), "zh": ("近视",), "ja": ("近視",), "ru": ("Миопия", "Близорукость"), "ko": ("근시",),
            "ar": ("قصر النظر",),
        },
        "Hypertensive Retinopathy": {
            "en": ("Hypertensive changes",), "de": ("Hypertensive Netzhautveränderungen",), "fr": ("Rétinopathie hypertensive",),
            "es": ("Retinopatía hipertensiva",), "it": ("Retinopatia ipertensiva",), "pt": ("Retinopatia hipertensiva",),
            "zh": ("高血压视网膜病变",), "ja": ("高血圧網膜症",), "ru": ("Гипертоническая ретинопатия",), "ko": ("고혈압망막병증",),
            "ar": ("اعتلال الشبكية بارتفاع ضغط الدم",),
        },
        "Retinal Detachment": {
            "en": ("Detached retina",), "de": ("Netzhautablösung",), "fr": ("Décollement de la rétine",),
            "es": ("Desprendimiento de retina",), "it": ("Distacco di retina",), "pt": ("Descolamento de retina",),
            "zh": ("视网膜脱离",), "ja": ("網膜剥離",), "ru": ("Отслойка сетчатки",), "ko": ("망막박리",),
            "ar": ("انفصال الشبكية",),
        },
    },
)  # fmt: skip


@dataclass(frozen=True)
class Style:
    """A way to reply.

    Attributes:
        name: as in the headings of the file of styles.
        answers: whether the replies answer.
        templates: (language, template) of each.
    """

    name: str
    answers: bool
    templates: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class GeneratedReply:
    """A reply, its options, and the letter that it names (None: no option, or not clearly one)."""

    style: str
    language: str
    text: str
    options: tuple[str, ...]
    expected: str | None


def read_styles(path: Path) -> list[Style]:
    """All styles of a file such as `replies_styles.txt`, in its order."""
    styles = []
    for block in path.read_text("utf-8").split("\n== ")[1:]:
        heading, *lines = block.strip().splitlines()
        name, expected = heading.split(" -> ")
        templates = tuple((line[:2], line[3:].replace("\\n", "\n")) for line in lines if line)
        styles.append(Style(name, expected == "x", templates))
    return styles


def generated(styles: list[Style], count: int, seed: int) -> Iterator[GeneratedReply]:
    """Draw `count` replies, the styles in turn, everything else at random."""
    drawn = random.Random(seed)
    for number in range(count):
        style = styles[number % len(styles)]
        language, template = drawn.choice(style.templates)
        names = drawn.choice(OPTION_SETS)
        options = tuple(drawn.sample(list(names), 4))
        places = drawn.sample(range(4), 4)
        fields = {}
        for field, place in zip("xyzw", places, strict=True):
            said = names[options[place]]
            fields[field] = LETTERS[place]
            fields[field.upper()] = options[place]
            fields[f"p{field.upper()}"] = drawn.choice(said.get(language, said["en"]))
        expected = fields["x"] if style.answers else None
        yield GeneratedReply(style.name, language, template.format(**fields), options, expected)
