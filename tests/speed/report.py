"""The report of two runs over 2,233 cases in 4 orders, with 10,000 bootstrap draws and every case's image: seconds and size.

Beside it, the statistics with each number drawing its own bootstrap samples, as before they were shared.

    python tests/speed/report.py [OUT]    # with OUT the report is kept there
"""

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

import numpy as np
from PIL import Image
from rows import Row, at_most, say, shown

from benchmark.cases.case import Case, write_cases
from benchmark.predictions.file import (
    FILE,
    Prediction,
    Run,
    cases_sha256,
    most_probable,
    questions_sha256,
    read_run,
    write_run,
)
from benchmark.report.content import build_report
from benchmark.report.writing import report_runs
from benchmark.stats import bootstrap
from benchmark.stats.rotations import as_asked, as_stored
from mgll.files import sha256
from mgll.manifest.records import Record, read_manifest
from mgll.readers.fundus_folder import read_fundus_folder
from mgll.synthetic.dataset import generate
from mgll.vocabulary.diseases import diseases
from mgll.vocabulary.questions import LETTERS, QUESTIONS

CASES, ROTATIONS, DRAWN = 2233, 4, 48
PROCESSOR = "s of a core"
FUNDUS = Path(__file__).resolve().parents[3] / "shared" / "fundus"


def photographs(folder: Path) -> list[Record]:
    """As many different images as cases: real ones where they are, else a few drawn ones, each shifted by some pixels."""
    if FUNDUS.is_dir():
        return read_fundus_folder(FUNDUS)[0][:CASES]
    drawn = list(read_manifest(generate(folder, count=DRAWN, seed=0, size=256, workers=2)))
    found = []
    for number in range(CASES):
        record, path = drawn[number % DRAWN], folder / f"shifted-{number}.jpg"
        pixels = np.asarray(Image.open(record.image))
        Image.fromarray(np.roll(pixels, number // DRAWN, axis=1)).save(path, quality=90)
        found.append(record.model_copy(update={"image": str(path), "group": f"patient-{number}"}))
    return found


def cases_about(records: list[Record]) -> list[Case]:
    """One case an image, its first label against three other names."""
    random = np.random.default_rng(0)
    names = {code: disease.name for code, disease in diseases().items()}
    cases = []
    for number, record in enumerate(records):
        code = record.labels[0]
        codes = [str(other) for other in random.choice([c for c in names if c not in record.labels], 3, replace=False)]
        codes.insert(number % 4, code)
        cases.append(
            Case(
                id=f"case-{number:04d}", image=record.image, image_sha256=sha256(record.image), group=record.group,
                source=record.source, question=QUESTIONS[number % 3], options=tuple(names[c] for c in codes),
                option_codes=tuple(codes), answer=number % 4, code=code,
            )
        )  # fmt: skip
    return cases


def run_over(cases: list[Case], name: str, skill: float, seed: int, images: str = "own") -> Run:
    """A model of some skill that likes the letter A, asked in every order, with a reply in words."""
    random = np.random.default_rng(seed)
    liking = np.array([0.5, 0.1, 0.0, -0.3])
    rows = []
    for case in cases:
        belief = random.normal(0, 1.2, 4) + skill * (np.arange(4) == case.answer)
        for rotation in range(ROTATIONS):
            logits = np.array(as_asked(belief, rotation)) + liking + random.normal(0, 0.4, 4)
            asked = logits - np.log(np.exp(logits).sum())
            log_probs = as_stored(tuple(float(value) for value in asked), rotation)
            letter, hesitant = int(logits.argmax()), random.random() < 0.03
            said = None if hesitant else as_asked(range(4), rotation)[letter]
            text = (
                "It could be any of these."
                if hesitant
                else f"{LETTERS[letter]}. {as_asked(case.options, rotation)[letter]}"
            )
            rows.append(
                Prediction(
                    case=case.id, rotation=rotation, log_probs=log_probs, text=text, said=said,
                    chosen=most_probable(log_probs), answer=case.answer, code=case.code, group=case.group,
                    source=case.source, prompt_sha256=hashlib.sha256(case.question.encode()).hexdigest(),
                )
            )  # fmt: skip
    header = {
        "model": name, "model_sha256": "0" * 64, "cases_sha256": cases_sha256(cases),
        "questions_sha256": questions_sha256(cases), "images": images, "rotations": ROTATIONS, "views": ["letter", "text"],
        "host": "llava", "options": "paper",
    }  # fmt: skip
    return Run(header, tuple(rows))


def rows(kept: Path | None = None) -> Iterator[Row]:
    """Seconds and size of the whole report, and what sharing the draws saves of its numbers."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = kept or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        cases = cases_about(photographs(folder / "eyes"))
        write_cases(folder / "cases.jsonl", cases)
        runs = {"host": run_over(cases, "llava-1.5-7b", 0.8, 1), "graft": run_over(cases, "llava-1.5-7b-mgll", 1.1, 2)}
        for name, run in runs.items():
            write_run(folder / name / FILE, run)
        whole = f"report of 2 x {CASES:,} x {ROTATIONS} rows, 10,000 draws"
        before, after = (read_run(folder / name) for name in runs)
        wall, shared = seconds(lambda: build_report(cases, after, before))
        yield shown("its numbers alone", "nothing", shared, f"{wall:.1f} s by the clock", PROCESSOR)
        wall, worked = seconds(
            lambda: report_runs(folder / "report", folder / "cases.jsonl", folder / "graft", folder / "host")
        )
        yield at_most(whole, "nothing", worked, 5, f"{wall:.1f} s by the clock", PROCESSOR)
        size = (folder / "report" / "report.html").stat().st_size
        yield at_most("its report.html", "what mail takes", size / 1e6, 15, unit="MB")
        held, bootstrap._KEPT = bootstrap._KEPT, 0
        apart = seconds(lambda: build_report(cases, after, before))[1]
        bootstrap._KEPT = held
        yield shown("its numbers, each with draws of its own", "draws shared by all", apart / shared)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Of the clock, and of processors, which other work on the machine hardly changes."""
    started, worked = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - worked


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, help="folder in which the report is kept")
    say(rows(parser.parse_args().out))
