"""What shares a batch, what is prepared ahead, and that neither changes a byte of the answers."""

import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from tiny_models import stirred_host

from benchmark.predictions.ahead import made_ahead
from benchmark.predictions.batches import PROMPTS_TOGETHER, Asking, in_batches
from benchmark.predictions.file import FILE, journal_path, read_journal
from benchmark.predictions.scoring import score_cases
from benchmark.scorers.scorer import ConstantLetter, PreparingScorer
from benchmark.scorers.transformers_scorer import TransformersScorer
from mgll.files import sha256
from mgll.images.preprocessing import ImageError


def test_batches_hold_every_case_once_what_shows_one_image_together_and_the_longest_first():
    generator = random.Random(0)
    for _ in range(50):
        count, size, together = generator.randint(1, 60), generator.randint(1, 9), generator.randint(1, 9)
        images = generator.choices("abcdefghijklmnop", k=count)
        lengths = [generator.randint(1, 100) for _ in range(count)]
        batches = in_batches(images, lengths, size, together)
        groups = [group for batch in batches for group in batch]
        assert sorted(index for group in groups for index in group) == list(range(count))
        assert all(sum(map(len, batch)) <= size for batch in batches)
        assert all(len({images[index] for index in group}) == 1 for group in groups)
        parts = Counter(images[group[0]] for group in groups)
        most = min(size, together)
        assert parts == {image: -(-number // most) for image, number in Counter(images).items()}
        longest = [sum(lengths[index] for index in group) for group in groups]
        assert longest == sorted(longest, reverse=True)


def test_what_is_made_ahead_comes_in_order_and_is_bounded():
    made, most, started = [], 5, threading.Semaphore(0)

    def make(item: int) -> int:
        made.append(item)
        started.release()
        if item == 7:
            raise ImageError("the eighth")
        return item * item

    ready = made_ahead(make, iter(range(100)), 3, most)
    assert next(ready) == 0
    for _ in range(most + 1):
        assert started.acquire(timeout=10)
    time.sleep(0.05)  # enough for more to be begun, if anything would
    assert sorted(made) == list(range(most + 1))
    assert [next(ready) for _ in range(6)] == [1, 4, 9, 16, 25, 36]
    with pytest.raises(ImageError, match="the eighth"):
        next(ready)
    assert max(made) <= 7 + most
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
    assert list(made_ahead(lambda item: item + 1, range(4), 0, 5)) == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Path:
    return stirred_host("llava", tmp_path_factory.mktemp("host") / "llava")


@pytest.fixture(scope="module")
def cases(coloured_cases, tmp_path_factory):
    """Eighteen cases about twelve images of noise, half of them shown in two cases, which lie far apart."""
    folder = tmp_path_factory.mktemp("noise")
    made = coloured_cases(18, folder)
    generator = random.Random(1)
    for case in made[:12]:
        with Image.open(case.image) as image:
            Image.frombytes("RGB", image.size, generator.randbytes(3 * image.width * image.height)).save(case.image)
    shown = [made[number % 12].image for number in range(18)]
    return [
        case.model_copy(update={"image": image, "image_sha256": sha256(image)})
        for case, image in zip(made, shown, strict=True)
    ]


def test_preparing_ahead_changes_no_byte_and_the_tower_sees_every_image_once(host, cases, tmp_path):
    scorer = TransformersScorer(host)
    assert isinstance(scorer, PreparingScorer)
    assert not isinstance(ConstantLetter("A"), PreparingScorer)
    seen: list[int] = []
    tower = scorer._loaded.model.get_submodule(scorer._loaded.host.tower)
    tower.register_forward_hook(lambda _m, _i, output: seen.append(len(output.last_hidden_state)))
    written = []
    for workers in (0, 1, 4):
        asking = Asking(rotations=4, batch_size=4, workers=workers)
        run = score_cases(cases, scorer, tmp_path / str(workers), asking)
        assert [(row.case, row.rotation) for row in run.predictions] == [(c.id, r) for c in cases for r in range(4)]
        assert sum(seen) == 12
        seen.clear()
        written.append((tmp_path / str(workers) / FILE).read_bytes())
    assert written[0] == written[1] == written[2]
    alone = score_cases(cases, scorer, tmp_path / "alone", Asking(rotations=4, batch_size=1))
    assert sum(seen) == 18
    for row, other in zip(run.predictions, alone.predictions, strict=True):
        assert (row.case, row.prompt_sha256, row.text) == (other.case, other.prompt_sha256, other.text)
        assert row.log_probs == pytest.approx(other.log_probs, abs=1e-4)


def test_a_damaged_image_ends_the_run_by_name_and_what_was_scored_goes_on_to_the_same_bytes(host, cases, tmp_path):
    scorer, asking = TransformersScorer(host), Asking(rotations=4, batch_size=4, workers=3)
    score_cases(cases, scorer, tmp_path / "whole", asking)
    damaged, content = Path(cases[5].image), Path(cases[5].image).read_bytes()
    damaged.write_bytes(content[:40])
    try:
        with pytest.raises(ImageError, match=r"case case-0(05|17): .*eye005"):
            score_cases(cases, scorer, tmp_path / "killed", asking)
        other, others = Path(cases[6].image), Path(cases[6].image).read_bytes()
        other.write_bytes(others[:40])
        with pytest.raises(ImageError, match=r"^2 images cannot be read, of \d+ looked at: .*eye005.*eye006"):
            score_cases(cases, scorer, tmp_path / "killed", asking)
        other.write_bytes(others)
    finally:
        damaged.write_bytes(content)
    left = len(read_journal(journal_path(tmp_path / "killed", 0)).predictions)
    assert left % 16 == 0
    assert left < 18 * 4
    score_cases(cases, scorer, tmp_path / "killed", asking)
    assert (tmp_path / "killed" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()


def test_blank_images_are_one_image(host, cases, tmp_path):
    scorer, seen = TransformersScorer(host), []
    tower = scorer._loaded.model.get_submodule(scorer._loaded.host.tower)
    tower.register_forward_hook(lambda _m, _i, output: seen.append(len(output.last_hidden_state)))
    together = score_cases(cases[:6], scorer, tmp_path / "a", Asking(images="blank", rotations=24, batch_size=6))
    assert PROMPTS_TOGETHER // 24 == 4
    assert sum(seen) == 2  # four questions in 24 orders share a pass
    alone = score_cases(cases[:6], scorer, tmp_path / "b", Asking(images="blank", rotations=24, batch_size=1))
    for row, other in zip(together.predictions, alone.predictions, strict=True):
        assert row.log_probs == pytest.approx(other.log_probs, abs=1e-4)


class Measuring(TransformersScorer):
    """Finds another attention faster each time, as a card may where they are alike."""

    found = ("mask", "limbs")

    def faster_attention(self, prepared):
        faster, *rest = self.found
        self.found = (*rest, faster)
        return faster


def test_a_measured_attention_holds_for_the_whole_run(host, cases, tmp_path):
    asking = Asking(rotations=4, batch_size=4)
    whole = score_cases(cases, Measuring(host), tmp_path / "whole", asking)
    assert whole.header["attention"] == "mask"
    scorer = Measuring(host)
    # its batch is not the first: it is shown in one case, and cases with an image of their own come last
    late = min(cases[6:12], key=lambda case: len(case.question) + sum(map(len, case.options)))
    hidden = Path(late.image).rename(tmp_path / "hidden")
    with pytest.raises(ImageError):
        score_cases(cases, scorer, tmp_path / "killed", asking)
    hidden.rename(late.image)
    again = score_cases(cases, scorer, tmp_path / "killed", asking)
    assert scorer.attention == again.header["attention"] == "mask"
    assert (tmp_path / "killed" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()
    assert "attention" not in score_cases(cases[:2], TransformersScorer(host), tmp_path / "cpu").header
