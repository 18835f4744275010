"""Rotations, views, what is shown, and several processes: rows that mean the same however they came about."""

import math
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import launches
import pytest
from oracle import Oracle, pixel_hash

from benchmark import run_mcq
from benchmark.cases.images import CaseImages, exchanged, open_case_image
from benchmark.predictions.batches import Asking
from benchmark.predictions.file import FILE, journal_path, read_journal, read_run, start_journal
from benchmark.predictions.scoring import Processes, score_cases
from benchmark.scorers.scorer import ConstantLetter, Score
from benchmark.stats.rotations import PERMUTATIONS, as_asked, as_stored
from mgll.formats import FormatError

SCRIPT = Path(run_mcq.__file__)


def knows(cases) -> Oracle:
    return Oracle({(pixel_hash(open_case_image(case)), case.question): case.options[case.answer] for case in cases})


def test_every_rotation_of_an_oracle_is_right_in_every_view(coloured_cases, tmp_path):
    cases = coloured_cases(12)
    run = score_cases(cases, knows(cases), tmp_path, Asking(rotations=24, views=("letter", "text", "option")))
    assert [(row.case, row.rotation) for row in run.predictions] == [
        (case.id, rotation) for case in cases for rotation in range(24)
    ]
    for row in run.predictions:
        assert row.chosen == row.said == row.likeliest == row.answer
        letter = PERMUTATIONS[row.rotation].index(row.answer)
        assert row.text == "ABCD"[letter]


def test_a_constant_letter_is_right_once_in_four_cyclic_orders(coloured_cases, tmp_path):
    cases = coloured_cases(12)
    run = score_cases(cases, ConstantLetter("C"), tmp_path, Asking(rotations=4))
    right = Counter(row.case for row in run.predictions if row.correct)
    assert right == {case.id: 1 for case in cases}


def test_orders_go_there_and_back():
    assert len(set(PERMUTATIONS)) == 24
    assert [sorted(order[letter] for order in PERMUTATIONS[:4]) for letter in range(4)] == [[0, 1, 2, 3]] * 4
    for rotation in range(24):
        assert as_stored(as_asked("wxyz", rotation), rotation) == tuple("wxyz")


class Mumbler(ConstantLetter):
    """Never names an option, except in the first order."""

    def score(self, asks, views):
        return [
            [
                Score(None, ask.orders[0][2] if number == 0 else "Hard to say.", text)
                for number, text in enumerate(ask.texts)
            ]
            for ask in asks
        ]


def test_a_reply_that_names_no_option_is_wrong_and_kept(coloured_cases, tmp_path):
    run = score_cases(coloured_cases(8), Mumbler("A"), tmp_path, Asking(rotations=4, views=("text",)))
    stored = [row for row in run.predictions if row.rotation == 0]
    assert {row.chosen for row in stored} == {2}
    others = [row for row in run.predictions if row.rotation]
    assert {(row.chosen, row.said, row.text, row.correct) for row in others} == {(None, None, "Hard to say.", False)}
    assert read_run(tmp_path).predictions == run.predictions


def test_views_that_a_model_does_not_have_are_refused_before_anything_is_written(coloured_cases, tmp_path):
    cases = coloured_cases(4)
    with pytest.raises(ValueError, match="constant:A has no option view; it has letter, text"):
        score_cases(cases, ConstantLetter("A"), tmp_path, Asking(views=("letter", "option")))
    with pytest.raises(ValueError, match="read from letters or from text"):
        score_cases(cases, knows(cases), tmp_path, Asking(views=("option",)))
    assert list(tmp_path.iterdir()) == []


class Overflows(ConstantLetter):
    """Gives NaN from the fifth call on, as weights do that are not finite."""

    calls = 0

    def score(self, asks, views):
        self.calls += 1
        scores = super().score(asks, views)
        if self.calls >= 5:
            scores[1][2] = scores[1][2]._replace(log_probs=(math.nan,) * 4)
        return scores


def test_numbers_that_are_not_finite_end_in_one_line_and_keep_what_was_scored(coloured_cases, tmp_path):
    cases, asking = coloured_cases(12), Asking(rotations=4, batch_size=2)
    with pytest.raises(ValueError, match=r"constant:A, case case-\d{3}, rotation 2: .* not finite .nan, nan") as error:
        score_cases(cases, Overflows("A"), tmp_path, asking)
    assert "\n" not in str(error.value)
    assert "float32" in str(error.value)
    assert len(read_journal(journal_path(tmp_path, 0)).predictions) == 8 * 4
    scorer = ConstantLetter("A")
    asked = []
    scorer.score = lambda asks, views: asked.append(len(asks)) or ConstantLetter.score(scorer, asks, views)  # type: ignore[method-assign]
    assert len(score_cases(cases, scorer, tmp_path, asking).predictions) == 48
    assert asked == [2, 2, 2], "the check and what was missing"


def test_a_finished_file_says_how_many_rows_it_has_and_a_cut_one_is_made_whole(coloured_cases, tmp_path):
    cases = coloured_cases(9)
    whole = score_cases(cases, ConstantLetter("A"), tmp_path, Asking(rotations=4))
    assert whole.header["answers"] == 36
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(b"".join(content.splitlines(keepends=True)[:20]))
    with pytest.raises(FormatError, match="19 predictions, but the header says 36"):
        read_run(tmp_path)
    score_cases(cases, ConstantLetter("A"), tmp_path, Asking(rotations=4))
    assert (tmp_path / FILE).read_bytes() == content


def test_two_runs_do_not_mix_in_one_folder(coloured_cases, tmp_path):
    cases = coloured_cases(6)
    code = "import sys, time\nfrom mgll.run_folder import locked\nwith locked(sys.argv[1]):\n    time.sleep(60)"
    first = launches.start(["-c", code, str(tmp_path)], tmp_path / "said.txt")
    while first.is_alive() and not (tmp_path / ".lock").is_file():
        time.sleep(0.01)
    with pytest.raises(ValueError, match="is in use by process"):
        score_cases(cases, ConstantLetter("A"), tmp_path)
    first.kill()
    first.join()
    score_cases(cases, ConstantLetter("A"), tmp_path)


def test_rows_of_another_model_are_not_taken_for_this_ones(coloured_cases, tmp_path):
    """Where a file system has no locks, another run's journal may stand where this one's stood."""
    cases, scorer = coloured_cases(6), ConstantLetter("A")
    other = ConstantLetter("B")

    def overtaken(asks, views):
        score_cases(cases[:2], other, tmp_path / "other")
        header = {**read_run(tmp_path / "other").header, "model_sha256": other.fingerprint}
        start_journal(journal_path(tmp_path / "run", 0), header, ()).close()
        return ConstantLetter.score(scorer, asks, views)

    scorer.score = overtaken  # type: ignore[method-assign]
    with pytest.raises(FormatError, match="another run, of model and cases and questions other than this one's"):
        score_cases(cases, scorer, tmp_path / "run", Asking(batch_size=6))


def test_exchanged_images_are_another_class_and_each_serves_once():
    generator = random.Random(0)
    for _ in range(50):
        codes = generator.choices("abcdef", weights=[6, 3, 3, 2, 1, 1], k=generator.randint(4, 80))
        source = exchanged(codes)
        assert sorted(source) == list(range(len(codes)))
        most = Counter(codes).most_common(1)[0][1]
        same = sum(codes[index] == codes[other] for index, other in enumerate(source))
        assert same == max(0, 2 * most - len(codes))


def test_shuffled_images_are_those_of_other_cases(coloured_cases, tmp_path):
    cases = coloured_cases(24)
    shown = CaseImages(cases, "shuffled")
    own = {pixel_hash(open_case_image(case)): case.code for case in cases}
    assert all(own[pixel_hash(shown[index])] != case.code for index, case in enumerate(cases))
    run = score_cases(cases, knows(cases), tmp_path, Asking(images="shuffled"))
    assert run.name == "oracle (shuffled images)"
    assert all(row.probability(row.answer) < 0.3 for row in run.predictions), "it knows what it sees, not what is asked"


def test_shares_of_processes_end_in_the_bytes_of_one(coloured_cases, tmp_path):
    cases = coloured_cases(23)
    asking = Asking(rotations=4, batch_size=3)
    score_cases(cases, ConstantLetter("A"), tmp_path / "one", asking)

    together = Barrier(3)

    def share(number: int) -> None:
        """What one process of three does until all have done their shares; then it is killed."""
        met = iter([together.wait, together.wait])
        score_cases(
            cases, ConstantLetter("A"), tmp_path / "three", asking, processes=Processes(number, 3, lambda: next(met)())
        )

    with ThreadPoolExecutor(3) as threads:
        shares = [threads.submit(share, number) for number in range(3)]
        ended = [done.exception() for done in shares]
    assert all(isinstance(error, StopIteration) for error in ended)
    assert not (tmp_path / "three" / FILE).exists()
    left = sorted(path.name for path in (tmp_path / "three").iterdir())
    assert left == [f"predictions.partial-{number}.jsonl" for number in range(3)]
    scorer = ConstantLetter("A")
    asked = []
    scorer.score = lambda asks, views: asked.append(len(asks)) or ConstantLetter.score(scorer, asks, views)  # type: ignore[method-assign]
    score_cases(cases, scorer, tmp_path / "three", asking)
    assert asked == [3], "all rows are there; only the check asks again"
    assert (tmp_path / "one" / FILE).read_bytes() == (tmp_path / "three" / FILE).read_bytes()
    assert [path.name for path in (tmp_path / "three").iterdir()] == [FILE]


# `--multi_gpu` is how accelerate is told of several processes; on a machine without a GPU they are CPU processes.
LAUNCH = [
    sys.executable,
    "-m",
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


@pytest.mark.slow
def test_accelerate_launch_spreads_the_cases_and_survives_a_kill(cases_file, tmp_path):
    arguments = ["--model", "constant:B", "--cases", str(cases_file), "--rotations", "24", "--batch-size", "1"]
    command = [str(SCRIPT), *arguments, "--out", str(tmp_path / "two")]
    killed = launches.start_several(2, command, tmp_path / "log.txt")
    second = tmp_path / "two" / "predictions.partial-1.jsonl"
    while all(process.is_alive() for process in killed) and not (second.exists() and second.stat().st_size > 2000):
        time.sleep(0.01)
    for process in killed:
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
    assert not (tmp_path / "two" / FILE).exists()
    done = subprocess.run([*LAUNCH, *command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The whole report") == 1
    assert run_mcq.main([*arguments, "--out", str(tmp_path / "one")]) == 0
    assert (tmp_path / "two" / FILE).read_bytes() == (tmp_path / "one" / FILE).read_bytes()
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}
