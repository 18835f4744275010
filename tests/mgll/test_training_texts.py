"""The texts of a step: picked in small arrays, made matrices on the device; tokens in a file that all processes map."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_text_models import bert

from mgll.encoders.text import TextEncoder
from mgll.objective import group_images
from mgll.training import token_file
from mgll.training.data import TextLevel
from mgll.training.distributed import share_of
from mgll.training.texts import TextTable, TrainingTexts
from mgll.training.token_file import NAME, tokens_from_file

TEXTS = ("drusen", "optic disc", "no", "drusen of the left eye")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return bert(tmp_path_factory.mktemp("bert"))


def sampled_level(random: np.random.Generator, records: int, texts: int) -> TextLevel:
    """Records with none to four texts each, with repeats."""
    counts = random.integers(0, 5, records)
    owned = random.integers(0, texts, counts.sum()).astype(np.int32)
    return TextLevel(tuple(f"text {i}" for i in range(texts)), owned, np.r_[0, np.cumsum(counts)])


@pytest.mark.parametrize("texts", [2, 30])
def test_picked_texts_are_the_matrices_of_every_record(texts):
    """Against the plain form: a dense matrix of counts filled text by text, and its rows sorted and grouped by torch."""
    random = np.random.default_rng(texts)
    levels = {name: sampled_level(random, 40, texts) for name in ("disease", "report")}
    numbers = {"disease": np.arange(texts), "report": np.arange(texts)[::-1] + texts // 2}
    everything = TrainingTexts(levels, Frozen(texts), "cpu")
    everything.table = TextTable(levels, numbers, None)
    for size in (1, 7, 40):
        records = random.permutation(40)[:size].tolist()
        batch = everything.batch(records)
        unique = sorted({numbers[n][t] for n, level in levels.items() for r in records for t in level.of_record(r)})
        assert batch.unique == len(unique)
        assert batch.inputs[0][:, 0].tolist() == unique
        plain = []
        for name, level in levels.items():
            used = sorted({int(numbers[name][text]) for record in records for text in level.of_record(record)})
            assert [unique[column] for column in batch.columns[name]] == used
            dense = torch.zeros(size, len(used))
            for row, record in enumerate(records):
                for text in level.of_record(record):
                    dense[row, used.index(numbers[name][text])] += 1
            assert torch.equal(batch.incidences[name], dense)
            plain.append(dense)
        expected = group_images(plain)
        assert batch.groups is not None
        assert torch.equal(batch.groups.group, expected.group)
        assert all(torch.equal(a, b) for a, b in zip(batch.groups.counts, expected.counts, strict=True))


class Frozen(torch.nn.Module):
    """An encoder whose feature of text i is i."""

    frozen = True

    def __init__(self, texts: int) -> None:
        super().__init__()
        self.values = torch.arange(2 * texts).float().unsqueeze(1)

    def features(self, _: list[str]) -> torch.Tensor:
        return self.values


def test_the_shares_of_all_processes_are_the_batch_padded_alike(folder):
    encoder = TextEncoder(folder, "full")
    level = TextLevel(TEXTS, np.array([0, 1, 2, 3, 0], dtype=np.int32), np.array([0, 2, 3, 5]))
    (whole,) = (TrainingTexts({"x": level}, encoder, "cpu").batch([0, 1, 2]),)
    shares = [TrainingTexts({"x": level}, encoder, "cpu", None, own, 3).batch([0, 1, 2]) for own in range(3)]
    assert {share.unique for share in shares} == {4}
    for place in (0, 1):
        parts = [share.inputs[place] for share in shares]
        assert torch.equal(torch.cat(parts)[:4], whole.inputs[place])
        assert [torch.equal(part, share_of(whole.inputs[place], own, 3)) for own, part in enumerate(parts)] == [
            True
        ] * 3


def same(one, two) -> bool:
    return torch.equal(one.ids, two.ids) and torch.equal(one.bounds, two.bounds) and one.pad == two.pad


def test_tokens_are_made_once_and_anew_for_other_texts_or_another_tokenizer(folder, tmp_path, monkeypatch):
    path, encoder = tmp_path / NAME, TextEncoder(folder, "full")
    made: list[int] = []
    real = TextEncoder.tokenise
    monkeypatch.setattr(TextEncoder, "tokenise", lambda self, texts: made.append(len(texts)) or real(self, texts))
    expected = real(encoder, TEXTS)
    for _ in range(2):
        assert same(tokens_from_file(path, encoder, TEXTS), expected)
    encoder.tokenizer("x", padding="max_length", truncation=True, max_length=7)  # leaves a mark in the tokenizer
    assert same(tokens_from_file(path, encoder, TEXTS), expected)
    assert made == [4]
    for texts in (TEXTS[:3], TEXTS[::-1], ("drusenoptic", " disc", *TEXTS[2:])):
        assert same(tokens_from_file(path, encoder, texts), real(encoder, texts))
    assert len(made) == 4
    settings = Path(folder) / "tokenizer.json"
    before = settings.read_text()
    other = json.loads(before)
    vocabulary = other["model"]["vocab"]
    vocabulary["d"], vocabulary["r"] = vocabulary["r"], vocabulary["d"]
    try:
        settings.write_text(json.dumps(other))
        changed = tokens_from_file(path, TextEncoder(folder, "full"), TEXTS)
    finally:
        settings.write_text(before)
    assert not torch.equal(changed.ids, expected.ids)
    assert len(made) == 5


def test_a_damaged_or_foreign_file_is_made_anew(folder, tmp_path):
    path, encoder = tmp_path / NAME, TextEncoder(folder, "full")
    expected = encoder.tokenise(TEXTS)
    tokens_from_file(path, encoder, TEXTS)
    whole = path.read_bytes()
    for content in (b"", whole[:20], whole[:-4], b"{}" * 40):
        path.write_bytes(content)
        assert same(tokens_from_file(path, encoder, TEXTS), expected)
        assert path.stat().st_size == len(whole)


def make(path: Path, folder: str, start, many: int) -> None:
    encoder = TextEncoder(folder, "full")
    texts = [f"{text} {i}" for i in range(many) for text in TEXTS]
    start.wait()
    for _ in range(20):
        tokens = tokens_from_file(path, encoder, texts)
        assert len(tokens.lengths) == len(texts)
        path.unlink(missing_ok=True)


def test_two_processes_make_the_same_file_at_the_same_time(folder, tmp_path):
    torch.set_num_threads(1)  # what a fork inherits must not wait for threads that it has not
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(2)
    both = [fork.Process(target=make, args=(tmp_path / NAME, folder, start, 50)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert [path.name for path in tmp_path.iterdir() if path.name != NAME] == []


def test_the_file_is_mapped_and_not_read(folder, tmp_path):
    tokens = tokens_from_file(tmp_path / NAME, TextEncoder(folder, "full"), TEXTS)
    assert token_file.NAME in Path("/proc/self/maps").read_text(encoding="utf-8")
    assert tokens.batch(torch.tensor([2]))[0].shape == (1, 4)
