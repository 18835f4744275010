"""How often the report's claims are wrong: a method is compared with itself, again and again, with new runs and new patients.

    python -m benchmark.calibrate_claims [--studies 1000] [--seeds 2 3 5 8] [--out table.md]

Each simulated study draws patients with photographs that are easy or hard for every model, questions with skewed class frequencies
and several questions a photograph, and runs that differ as seeds of one method do: in skill, in what they see in a photograph, and
in their liking for names of classes; they scatter somewhat more than eight runs of one method on real photographs did
(`recipes/null_study.py`). For every number that a report claims the table gives its size (how often p < 0.05 although there is no
difference; should be 5 %) and its coverage (how often the 95 % interval holds the truth; should be 95 %).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmark.stats.bootstrap import Resampling
from benchmark.stats.numbers import Questions
from benchmark.stats.seeds import corrected, method_difference, method_number
from benchmark.stats.significance import sign_flip
from mgll.ending import ends_in_one_line
from mgll.files import write_text
from mgll.flags import CommandParser
from mgll.vocabulary.diseases import TEN_CLASSES

_RARE = ("ERM", "MNF", "VD", "HR", "Laser Scars")
CLASSES = (*TEN_CLASSES, *_RARE)


@dataclass(frozen=True)
class Scatter:
    """How photographs and runs differ, in units of the evidence that a photograph shows its class.

    Attributes:
        signal: evidence for the true class, on average.
        photograph: standard deviation of what every run sees in a photograph for a class, whether or not it is there.
        skill: standard deviation between runs of their factor on the signal.
        liking: standard deviation between runs of their liking for a class's name.
        run: standard deviation of what one run alone sees in a photograph for a class.
    """

    signal: float = 0.6
    photograph: float = 0.8
    skill: float = 0.03
    liking: float = 0.35
    run: float = 0.4


@dataclass(frozen=True)
class Study:
    """The questions of a simulated study, and what every run sees in them.

    Attributes:
        questions: as the statistics take them.
        shared: evidence for each option that all runs share [cases, 4].
        true: whether an option is true [cases, 4].
        image: number of the photograph of each question.
        classes: number of the class of each option [cases, 4].
    """

    questions: Questions
    shared: np.ndarray
    true: np.ndarray
    image: np.ndarray
    classes: np.ndarray


def draw_study(rng: np.random.Generator, scatter: Scatter, images: int, sets: int) -> Study:
    """Draw patients with one to four photographs of one class each, and `sets` sets of four classes, asked four times each."""
    shares = 0.75 ** np.arange(len(CLASSES))
    # Every class has a few photographs, as in a set of questions that leaves rare classes out.
    image_class = np.concatenate(
        [
            np.tile(np.arange(len(CLASSES)), 3),
            rng.choice(len(CLASSES), images - 3 * len(CLASSES), p=shares / shares.sum()),
        ]
    )
    patient = np.repeat(np.arange(images), rng.integers(1, 5, images))[:images]
    patient = patient[rng.permutation(images)]
    evidence = scatter.photograph * rng.standard_normal((images, len(CLASSES)))
    weights = np.minimum(4 * np.bincount(image_class, minlength=len(CLASSES)) / images, 1.0)
    # Gumbel's trick: the four largest of log-weights with noise are a sample without replacement.
    noisy = np.log(weights) + rng.gumbel(size=(sets, len(CLASSES)))
    chosen = np.argsort(-noisy, axis=1)[:, :4]
    options = np.repeat(chosen, 4, axis=0)
    truth = np.tile(np.arange(4), sets)
    answer = options[np.arange(len(truth)), truth]
    by_class, sizes = np.argsort(image_class, kind="stable"), np.bincount(image_class, minlength=len(CLASSES))
    first = np.cumsum(sizes) - sizes
    image = by_class[first[answer] + (rng.random(len(answer)) * sizes[answer]).astype(int)]
    names = np.array(CLASSES)
    questions = Questions(names[options].tolist(), truth, patient[image].astype(str).tolist())
    return Study(questions, evidence[image[:, None], options], truth[:, None] == np.arange(4), image, options)


def draw_run(rng: np.random.Generator, study: Study, scatter: Scatter) -> np.ndarray:
    """What one more run of the method picks: [cases, 4], 1 for one option of each question."""
    liking = scatter.liking * rng.standard_normal(len(CLASSES))
    signal = scatter.signal * (1 + scatter.skill * rng.standard_normal())
    own = scatter.run * rng.standard_normal((study.image.max() + 1, len(CLASSES)))
    evidence = study.shared + signal * study.true + liking[study.classes] + own[study.image[:, None], study.classes]
    return np.asarray(np.eye(4)[evidence.argmax(axis=1)])


@dataclass
class Tally:
    """How often a claim was wrong."""

    claim: str
    seeds: int
    studies: int = 0
    rejected: int = 0
    covered: int = 0
    intervals: int = 0

    def add(self, p: float | None, covers: bool | None) -> None:
        """Count one study."""
        self.studies += 1
        self.rejected += p is not None and p < 0.05
        if covers is not None:
            self.intervals += 1
            self.covered += covers

    @property
    def size(self) -> float:
        """Share of studies with p below 5 %."""
        return self.rejected / self.studies

    @property
    def coverage(self) -> float:
        """Share of intervals that hold the truth; NaN where there is none."""
        return self.covered / self.intervals if self.intervals else float("nan")


def simulate(
    studies: int,
    seeds: Sequence[int],
    scatter: Scatter | None = None,
    images: int = 200,
    sets: int = 150,
    random: int = 0,
) -> list[Tally]:
    """Compare a method with itself `studies` times for each number of seeds a side, and two fixed models with each other."""
    scatter = scatter or Scatter()
    truth = _long_run(scatter, images, sets)
    tallies: dict[tuple[str, int], Tally] = {}

    def count(claim: str, side: int, p: float | None, covers: bool | None) -> None:
        tallies.setdefault((claim, side), Tally(claim, side)).add(p, covers)

    rng = np.random.default_rng(random)
    for _ in tqdm(range(studies), "studies", leave=False, disable=None):
        study = draw_study(rng, scatter, images, sets)
        for side in seeds:
            before, after = ([draw_run(rng, study, scatter) for _ in range(side)] for _ in range(2))
            for claim, p, covers in _claims(study, before, after, truth):
                count(claim, side, p, covers)
        for claim, p, covers in _claims_of_weights(study, rng, scatter):
            count(claim, 1, p, covers)
    return list(tallies.values())


def _claims(
    study: Study, before: Sequence[np.ndarray], after: Sequence[np.ndarray], truth: dict[str, float]
) -> Iterator[tuple[str, float | None, bool | None]]:
    """What a report claims of two methods."""
    for number in study.questions.totals():
        found = method_difference(number, study.questions, before, after)
        yield f"{number.name}, difference", found.p, found.estimate.low <= 0 <= found.estimate.high
        alone = method_number(number, study.questions, after).estimate
        yield f"{number.name}, one method", None, alone.low <= truth[number.name] <= alone.high
    p = [
        method_difference(study.questions.informedness_of(code), study.questions, before, after).p
        for code in study.questions.codes
    ]
    yield "any class (Holm)", float(np.nanmin(corrected(p))), None


def _claims_of_weights(
    study: Study, rng: np.random.Generator, scatter: Scatter
) -> Iterator[tuple[str, float | None, bool | None]]:
    """What a report of one run a side claims: of two sets of weights that are equally good over all patients."""
    equal = Scatter(scatter.signal, scatter.photograph, 0.0, 0.0, scatter.run)
    before, after = (draw_run(rng, study, equal) for _ in range(2))
    overall = study.questions.overall()
    difference = len(study.image) * (overall.contributions(after) - overall.contributions(before))
    drawn = Resampling(study.questions.groups, draws=500)
    found = drawn.mean(difference)
    p = sign_flip(difference, study.questions.groups, draws=500)
    yield "overall, these weights", p, found.low <= 0 <= found.high


def _long_run(scatter: Scatter, images: int, sets: int, studies: int = 300) -> dict[str, float]:
    """The numbers of the method over many patients and runs: the truth that intervals should hold."""
    rng = np.random.default_rng(1)
    values: dict[str, list[float]] = {}
    for _ in range(studies):
        study = draw_study(rng, scatter, images, sets)
        picked = draw_run(rng, study, scatter)
        for number in study.questions.totals():
            values.setdefault(number.name, []).append(number.value(picked))
    return {name: float(np.mean(found)) for name, found in values.items()}


def table(tallies: Sequence[Tally]) -> str:
    """Markdown: a line for each claim and number of seeds a side."""
    lines = ["| claim | seeds a side | studies | size, % | coverage, % |", "|---|---:|---:|---:|---:|"]
    for entry in tallies:
        size = "" if entry.claim.endswith("one method") else f"{100 * entry.size:.1f}"
        coverage = f"{100 * entry.coverage:.1f}" if entry.intervals else ""
        lines.append(f"| {entry.claim} | {entry.seeds} | {entry.studies:,} | {size} | {coverage} |")
    return "\n".join(lines)


@ends_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and print the table."""
    parser = CommandParser(
        prog="python -m benchmark.calibrate_claims",
        description=__doc__,
    )
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies (default %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 8], help="runs of each method")
    parser.add_argument("--out", help="file to write the table to as well")
    options = parser.parse_args(arguments)
    if options.studies < 1 or min(options.seeds) < 2:
        raise ValueError("at least one study and two seeds a side are needed")
    found = table(simulate(options.studies, options.seeds))
    print(found)
    if options.out:
        write_text(Path(options.out), found + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
