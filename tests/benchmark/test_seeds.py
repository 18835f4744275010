"""Seeds are averaged per case: the difference and its interval are those of the means, not of pooled answers."""

import hashlib

import numpy as np
import pytest

from benchmark.predictions.file import ComparisonError, Prediction, Run
from benchmark.report import seeds


def run(correct, cases_sha256="c") -> Run:
    rows = []
    for number, right in enumerate(correct):
        chosen = 0 if right else 1
        log_probs = [float(np.log(0.1))] * 4
        log_probs[chosen] = float(np.log(0.7))
        rows.append(
            Prediction(
                case=str(number), rotation=0, log_probs=tuple(log_probs), text="A", chosen=chosen, answer=0,
                code="DR" if number % 2 else "Health", group=f"p{number // 2}", source="s",
                prompt_sha256=hashlib.sha256(b"p").hexdigest(),
            )
        )  # fmt: skip
    header = {"model": "m", "images": "own", "cases_sha256": cases_sha256, "questions_sha256": "q"}
    return Run({**header, "model_sha256": "m", "rotations": 1}, tuple(rows))


def test_the_average_is_taken_per_case():
    first, second = [1, 0, 1, 1], [0, 0, 1, 1]
    averaged = seeds.average("clip", [run(first), run(second)], draws=200)
    assert averaged.values.tolist() == [0.5, 0, 1, 1]
    assert averaged.by_seed == (0.75, 0.5)
    assert averaged.summary.overall.value == pytest.approx(0.625)
    assert (averaged.summary.n, averaged.summary.groups) == (4, 2)


def test_more_seeds_of_the_same_answers_do_not_narrow_the_interval():
    random = np.random.default_rng(0)
    correct = random.integers(0, 2, 120).tolist()
    one = seeds.average("a", [run(correct)], draws=2000).summary.overall
    ten = seeds.average("a", [run(correct)] * 10, draws=2000).summary.overall
    assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=1e-6)


def test_a_difference_is_named_with_its_test():
    random = np.random.default_rng(1)
    worse, better = ((random.random((2, 200)) < share).astype(int) for share in (0.3, 0.7))
    before = seeds.average("clip", [run(row) for row in worse], draws=500)
    after = seeds.average("mgll", [run(row) for row in better], draws=500)
    difference = seeds.compare(before, after, run(worse[0]), draws=500)
    assert difference.overall.low > 0
    assert difference.sign_flip_p < 0.01
    sentence = seeds.sentence(before, after, difference)
    assert "mgll minus clip: +" in sentence
    assert "sign-flip" in sentence
    assert seeds.table([before, after]).count("\n") == 3


def test_runs_over_other_cases_are_refused():
    with pytest.raises(ComparisonError, match="differ in"):
        seeds.average("a", [run([1, 0]), run([1, 0], cases_sha256="d")])
