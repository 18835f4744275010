"""Drawing the four options of each question, on label sets alone (no image is opened here).

Two ways. `paper`: the answer is the image's class and three distractors are uniform over the disease names, as the paper
has it; class frequency alone then answers most questions. `balanced` (default): no strategy that does not see the image beats
25 %. Its steps:

1. Enumerate every set of four classes that is *answerable*: for each of the four there are at least `min_images` images of
   that class for which none of the other three can hold. A set in which only some classes can be the answer would
   tell which one is, so it is not used at all.
2. Over the answerable sets take the maximum-entropy design of fixed size four (conditional Poisson sampling) whose inclusion
   probabilities are 4 p, p being the class's share of the images capped at 25 %. Labels can make these targets
   unreachable (no image has DME without DR while DR should be in every set); then the nearest reachable ones result.
3. A drawn set serves in four questions, each of its classes being the answer once, each position A to D once. So the answer is
   uniform given the options not only in expectation but within the file.
4. The image is the least used one of the answer's class for which no other option can hold.

Balanced options are drawn *within a source* wherever the sources of the images are given: classes are unevenly spread over data
sets, and whoever recognises the data set (by its borders, its size, its colours) would otherwise know which of four classes are
likely. Steps 1 to 4 are taken for each source apart, so that the answer is uniform given the options and the source. A source
with fewer than four classes that can stand beside one another is asked nothing about, and is listed.

The 25 % are those of the accuracy over cases. The unweighted mean over classes is not protected by it: always picking the rarest
option is right for every rare class and wrong for the frequent ones. Where the macro average is the claim, draw with
`equal`, so that both averages are one, or read `significance.informedness`, which is 0 for every blind strategy.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal, TypedDict

import numpy as np

from benchmark.options.counts import ShortageError, assign_images, in_proportion, table14_counts
from benchmark.options.sets import capped_shares, set_design
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS, benchmark_classes, paper_names

#: So many classes or sources are named in a message.
_TOLD = 3

Kind = Literal["balanced", "paper"]
Classes = Sequence[str] | Literal["present", "table14"] | None
Names = Literal["classes", "all"]


class TooFewImagesError(ValueError):
    """The images that there are do not give four classes that can stand beside one another."""


class Design(TypedDict, total=False):
    """How questions are drawn: the arguments of `draw` after the label sets.

    Attributes:
        kind: `balanced` or `paper` (see the module's text).
        count: number of questions; default one for every image and class of it, or Table 14's 2,233.
        classes: class codes to use, or `present` (all that occur; default of `balanced`), or `table14` (the 25 of that table;
            default of `paper`). A class without images is still a distractor of `paper` questions.
        min_images: classes with fewer images are left out, default 5 for `balanced`, 1 for `paper`. In a balanced option set each
            class has at least this many images for which no other option can hold.
        clean: no `paper` distractor holds or may hold for the image. False draws from all other names as the paper says, so that
            No AMD can stand beside DR; balanced questions are always clean.
        names: where `paper` distractors come from: the chosen classes, or all names that the paper has, grades among them.
        equal: in `balanced`, offer every class equally often instead of by its capped share.
        any_source: in `balanced`, draw over all images at once although their sources are known; recognising a source then pays.
        table14: `paper` questions whose answers have exactly Table 14's counts, or are in its proportions where `count` is
            smaller; every image is asked about once.
        allow_short: draw what there is where images are missing for `table14`.
        seed: of everything that is drawn.
    """

    kind: Kind
    count: int | None
    classes: Classes
    min_images: int | None
    clean: bool
    names: Names
    equal: bool
    any_source: bool
    table14: bool
    allow_short: bool
    seed: int


@dataclass(frozen=True)
class Drawn:
    """One question: index of the image among the label sets, four class codes in stored order, index of the answer."""

    image: int
    codes: tuple[str, str, str, str]
    answer: int


@dataclass(frozen=True)
class Drawing:
    """The result of `draw`: questions, and the classes that are missing or short.

    Attributes:
        questions: in file order.
        shares: class -> wanted share of the answers: that of the images among the classes used, capped at 25 % for `balanced`.
            Balanced sets meet it as nearly as the labels let classes stand beside one another.
        left_out: class -> why it is the answer of no question.
        ambiguous: number of questions with a distractor that holds or may hold for the image (0 where drawn clean).
        short: class -> images found and needed, where Table 14 wants more than there are.
        sources: source -> its number of questions, where options were drawn within sources.
        sources_left_out: source -> why nothing is asked about its images.
        contradictory: contradiction (`Health beside Glaucoma`) -> number of images that were left out before drawing.
    """

    questions: tuple[Drawn, ...]
    shares: Mapping[str, float]
    left_out: Mapping[str, str]
    ambiguous: int = 0
    short: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)
    sources_left_out: Mapping[str, str] = field(default_factory=dict)
    contradictory: Mapping[str, int] = field(default_factory=dict)

    def describe(self) -> str:
        """One line for every source or class that is left out or has too few images; empty where there is none."""
        left_out = [
            f"source left out: {source or 'not stated'}: {reason}" for source, reason in self.sources_left_out.items()
        ]
        left_out += [f"left out: contradictory labels: {pair}: {n} images" for pair, n in self.contradictory.items()]
        left_out += [f"left out: {code}: {reason}" for code, reason in self.left_out.items()]
        return "\n".join(
            [*left_out, *(f"short: {code}: {have} of {need}" for code, (have, need) in self.short.items())]
        )


def member_codes(labels: Sequence[str], table: ClassTable = FUNDUS) -> frozenset[str]:
    """Classes that an image is an example of: its labels, a grade folded to its parents (Moderate NPDR -> DR).

    Unlike `true_codes` this does not make every image without AMD an example of No AMD, nor a glaucoma one of cupping.
    """
    return frozenset(code for label in labels for code in (table.parents(label) or (label,)))


def class_counts(label_sets: Sequence[Sequence[str]], table: ClassTable = FUNDUS) -> dict[str, int]:
    """Class -> number of images that are an example of it, in the order of the class table."""
    members = [member_codes(labels, table) for labels in label_sets]
    counts = {code: sum(code in member for member in members) for code in table.classes}
    return {code: count for code, count in counts.items() if count}


def draw(
    label_sets: Sequence[Sequence[str]],
    kind: Kind = "balanced",
    count: int | None = None,
    classes: Classes = None,
    min_images: int | None = None,
    clean: bool = True,
    names: Names = "classes",
    equal: bool = False,
    any_source: bool = False,
    table14: bool = False,
    allow_short: bool = False,
    seed: int = 0,
    sources: Sequence[str] | None = None,
    table: ClassTable = FUNDUS,
) -> Drawing:
    """Draw questions for images; the same arguments give the same questions.

    `label_sets` holds the label codes of each image, `sources` the data set of each, `table` the classes; `Design`
    explains the rest.

    Raises:
        TooFewImagesError: if fewer than four classes remain, or no set of four is answerable; says why classes were left out.
        ValueError: for arguments that do not go together.
        ShortageError: if images are missing for `table14`; says how many each class has and needs.
    """
    if table is not FUNDUS and (table14 or classes == "table14" or names == "all"):
        raise ValueError(
            f"Table 14 and the paper's names are those of fundus photographs; these images have the classes of {table.name}"
        )
    if table14:
        _check_table14(kind, classes, min_images)
    if kind == "balanced" and sources is not None and not any_source:
        return _draw_within_sources(label_sets, sources, count, classes, min_images, equal, seed, table)
    counts = class_counts(label_sets, table)
    of_paper = kind == "paper" and table is FUNDUS
    classes = _class_codes(classes or ("table14" if of_paper else "present"), counts, table)
    minimum = min_images if min_images is not None else (1 if kind == "paper" else 5)
    left_out = {code: "not among the chosen classes" for code in counts if code not in classes}
    left_out |= {
        code: f"{counts[code]} images, fewer than {minimum}" if code in counts else "no image"
        for code in classes
        if counts.get(code, 0) < minimum
    }
    used = [code for code in classes if code not in left_out]
    pool = used if kind == "balanced" else list(dict.fromkeys([*classes, *(paper_names() if names == "all" else ())]))
    if len(pool) < 4 or not used:
        raise TooFewImagesError(
            f"four classes are needed, {len(pool)} remain ({', '.join(pool) or 'none'}). Left out: {_briefly(left_out, counts)}"
        )
    if count is not None and count < 1:
        raise ValueError(f"at least one question must be drawn, count is {count}")
    images, rng = _Images(label_sets, pool, table), np.random.default_rng(seed)
    if kind == "balanced":
        return _draw_balanced(images, count or sum(counts[code] for code in used), minimum, equal, left_out, rng)
    if table14:
        return _draw_table14(images, count, clean, allow_short, left_out, rng)
    need = in_proportion({code: counts[code] for code in used}, count or sum(counts[code] for code in used))
    return _draw_paper(
        images, {code: images.take_many(code, number, rng) for code, number in need.items()}, clean, left_out, rng
    )


def _draw_within_sources(
    label_sets: Sequence[Sequence[str]],
    sources: Sequence[str],
    count: int | None,
    classes: Classes,
    min_images: int | None,
    equal: bool,
    seed: int,
    table: ClassTable,
) -> Drawing:
    """Balanced questions of each source, in number as its images and classes, shuffled together."""
    members = {
        source: [index for index, name in enumerate(sources) if name == source] for source in sorted(set(sources))
    }

    def one(source: str, number: int | None) -> Drawing:
        labels = [label_sets[index] for index in members[source]]
        drawn = draw(labels, "balanced", number, classes, min_images, equal=equal, seed=seed, table=table)
        return replace(
            drawn,
            questions=tuple(replace(question, image=members[source][question.image]) for question in drawn.questions),
        )

    whole, reasons = {}, {}
    for source in members:
        try:
            whole[source] = one(source, None)
        except TooFewImagesError as error:
            reasons[source] = str(error)
    if not whole:
        if set(members) == {""}:
            raise TooFewImagesError(reasons[""])
        images_in = Counter(sources)
        raise TooFewImagesError(
            "no source has four classes that can stand beside one another; add images, lower --min-images, or draw over all"
            f" sources at once (--any-source), where recognising a source pays. {_briefly(reasons, images_in)}"
        )
    sizes = {source: len(drawing.questions) for source, drawing in whole.items()}
    numbers = sizes if count is None else in_proportion(sizes, count)
    drawings = {
        source: whole[source] if number == sizes[source] else one(source, number)
        for source, number in numbers.items()
        if number
    }
    reasons |= {source: f"{count} questions are too few for it" for source, number in numbers.items() if not number}
    questions = [question for drawing in drawings.values() for question in drawing.questions]
    order = np.random.default_rng([seed, len(drawings)]).permutation(len(questions))
    asked = {question.codes[question.answer] for question in questions}
    reasons_of: dict[str, dict[str, str]] = {}
    for source, drawing in drawings.items():
        for code, reason in drawing.left_out.items():
            if code not in asked:
                reasons_of.setdefault(code, {})[source] = reason
    left_out = {
        code: next(iter(said.values()))
        if len(set(said.values())) == 1
        else "; ".join(f"{source or 'not stated'}: {reason}" for source, reason in said.items())
        for code, said in reasons_of.items()
    }
    for code in class_counts(label_sets, table):
        if code not in asked:
            left_out.setdefault(code, "only in sources that are left out")
    shares: dict[str, float] = {}
    for source, drawing in drawings.items():
        for code, share in drawing.shares.items():
            shares[code] = shares.get(code, 0.0) + share * numbers[source] / len(questions)
    return Drawing(
        tuple(questions[index] for index in order), shares, left_out, sources=numbers, sources_left_out=reasons
    )


class _Images:
    """What is known of the images, as truth tables over the classes to choose among, and how often each was used."""

    def __init__(self, label_sets: Sequence[Sequence[str]], codes: Sequence[str], table: ClassTable) -> None:
        self.codes = list(codes)
        #: [images, classes] is an example of; holds or may hold.
        self.member = _table([member_codes(labels, table) for labels in label_sets], self.codes)
        self.possible = _table([table.possible(labels) for labels in label_sets], self.codes)
        self.uses = np.zeros(len(label_sets), dtype=int)

    def take(self, answer: int, others: np.ndarray, rng: np.random.Generator) -> int:
        """Index of a least used image of the answer's class for which no other option can hold."""
        eligible = np.flatnonzero(self.member[:, answer] & ~self.possible[:, others].any(axis=1))
        least = eligible[self.uses[eligible] == self.uses[eligible].min()]
        image = int(rng.choice(least))
        self.uses[image] += 1
        return image

    def take_many(self, code: str, number: int, rng: np.random.Generator) -> list[int]:
        """Indices of `number` images of a class, the least used first."""
        nothing = np.array([], dtype=int)
        return [self.take(self.codes.index(code), nothing, rng) for _ in range(number)]

    def assign(self, need: Mapping[str, int], rng: np.random.Generator) -> dict[str, list[int]]:
        """Indices of as many different images as each class needs, no image twice; fewer where they don't suffice."""
        member = self.member[:, [self.codes.index(code) for code in need]]
        found = assign_images(member, list(need.values()), rng)
        return {code: images.tolist() for code, images in zip(need, found, strict=True)}

    def answerable(self, sets: np.ndarray, minimum: int) -> np.ndarray:
        """[sets] whether each class of the set has `minimum` images for which no other of the set can hold."""
        rows, numbers = np.unique(np.concatenate([self.member, self.possible], axis=1), axis=0, return_counts=True)
        member, possible = np.split(rows, 2, axis=1)
        images = np.zeros(sets.shape, dtype=np.int64)
        for is_member, is_possible, number in zip(member, possible, numbers, strict=True):
            inside = is_possible[sets]
            images += number * (inside & is_member[sets] & (inside.sum(axis=1, keepdims=True) == 1))
        return np.asarray((images >= minimum).all(axis=1))


def _class_codes(classes: Sequence[str], counts: Mapping[str, int], table: ClassTable) -> list[str]:
    if classes == "present":
        return list(counts)
    if classes == "table14":
        return [disease.code for disease in benchmark_classes()]
    if unknown := [code for code in classes if code not in table.classes]:
        codes = "mgll/vocabulary/diseases.csv" if table is FUNDUS else f"{table.name}: {', '.join(table.classes)}"
        raise ValueError(f"no such class: {', '.join(unknown)}; codes are those of {codes}")
    return list(dict.fromkeys(classes))


def _briefly(reasons: Mapping[str, str], sizes: Mapping[str, int]) -> str:
    """The reasons of the largest, which are the nearest to being used, and the number of the others."""
    first = sorted(reasons, key=lambda name: -sizes.get(name, 0))[:_TOLD]
    others = f"; and {len(reasons) - _TOLD} more, each with fewer images" if len(reasons) > _TOLD else ""
    return "; ".join(f"{name or 'not stated'}: {reasons[name]}" for name in first) + others or "nothing"


def _draw_balanced(
    images: _Images, count: int, minimum: int, equal: bool, left_out: dict[str, str], rng: np.random.Generator
) -> Drawing:
    codes = images.codes
    sets = np.array(list(combinations(range(len(codes)), 4)))
    sets = sets[images.answerable(sets, minimum)]
    reason = f"in no option set where each class has {minimum} images for which no other option holds"
    if not len(sets):
        raise TooFewImagesError(f"{', '.join(codes)}: {reason}; add images or classes, or lower --min-images")
    reachable = np.unique(sets)
    shares = np.zeros(len(codes))
    shares[reachable] = 1 / len(reachable) if equal else capped_shares(images.member[:, reachable].sum(axis=0))
    # Systematic sampling over the list of sets: each draw has the design's probabilities, class counts vary less.
    blocks = -(-count // 4)
    steps = (np.arange(blocks) + rng.random()) / blocks
    chosen = np.minimum(np.searchsorted(np.cumsum(set_design(sets, 4 * shares)), steps), len(sets) - 1)
    questions = []
    for options in rng.permutation(sets[chosen]):
        for position, answer in enumerate(rng.permutation(options)):
            others = options[options != answer]
            questions.append(_question(images, images.take(answer, others, rng), answer, others, position, rng))
    order = rng.permutation(count)  # of a last block that is cut short, which classes answer is random: positions were
    left_out = left_out | {code: reason for index, code in enumerate(codes) if index not in reachable}
    never = f"drawn for none of {blocks} option sets: it is rare, or cannot stand beside the frequent classes"
    left_out |= {codes[index]: never for index in reachable if index not in sets[chosen]}
    kept = {codes[index]: float(shares[index]) for index in reachable}
    return Drawing(tuple(questions[index] for index in order), kept, left_out)


def _check_table14(kind: Kind, classes: Classes, min_images: int | None) -> None:
    if kind == "balanced":
        raise ValueError(
            "Table 14's counts need paper options: 40 % of its answers are Health, and whoever picks Health wherever it is"
            " offered is right that often; balanced options give no class more than 25 %"
        )
    if classes not in (None, "table14") or min_images not in (None, 1):
        raise ValueError("Table 14's counts need all of its 25 classes; leave out the classes and min_images")


def _draw_table14(
    images: _Images,
    count: int | None,
    clean: bool,
    allow_short: bool,
    left_out: Mapping[str, str],
    rng: np.random.Generator,
) -> Drawing:
    need = table14_counts(count)
    chosen = images.assign(need, rng)
    short = {code: (len(chosen[code]), number) for code, number in need.items() if len(chosen[code]) < number}
    if short and not allow_short:
        raise ShortageError(short)
    left_out = {code: reason for code, reason in left_out.items() if code not in need}  # `short` says it better
    return replace(_draw_paper(images, chosen, clean, left_out, rng), short=short)


def _draw_paper(
    images: _Images,
    chosen: Mapping[str, Sequence[int]],
    clean: bool,
    left_out: Mapping[str, str],
    rng: np.random.Generator,
) -> Drawing:
    """One question for each of the images chosen for each class."""
    codes = images.codes
    asked = [(codes.index(code), image) for code, indices in chosen.items() for image in indices]
    positions = rng.permutation(np.arange(len(asked)) % 4)
    questions, ambiguous = [], 0
    for position, number in zip(positions, rng.permutation(len(asked)), strict=True):
        answer, image = asked[number]
        false = np.flatnonzero(~images.possible[image]) if clean else np.delete(np.arange(len(codes)), answer)
        if len(false) < 3:
            raise ValueError(
                f"an image of {codes[answer]} has {len(false)} of the {len(codes)} classes as possible distractors, three are"
                " needed; choose more classes"
            )
        others = rng.choice(false, 3, replace=False)
        ambiguous += int(images.possible[image, others].any())
        questions.append(_question(images, image, answer, others, position, rng))
    shares = {code: len(indices) / len(asked) for code, indices in chosen.items() if indices}
    return Drawing(tuple(questions), shares, left_out, ambiguous)


def _question(
    images: _Images, image: int, answer: int, others: np.ndarray, position: int, rng: np.random.Generator
) -> Drawn:
    order = list(rng.permutation(others))
    order.insert(position, answer)
    first, second, third, fourth = (images.codes[index] for index in order)
    return Drawn(image, (first, second, third, fourth), int(position))


def _table(code_sets: Sequence[frozenset[str]], codes: Sequence[str]) -> np.ndarray:
    return np.array([[code in held for code in codes] for held in code_sets], dtype=bool).reshape(-1, len(codes))
