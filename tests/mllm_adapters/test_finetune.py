"""Fine-tuning: what learns, what stays, and that a kill or a fresh process changes nothing."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import launches
import pytest
import torch
from image_inputs import ImageInputs, text_inputs
from safetensors.torch import load_file

from benchmark.scorers.transformers_scorer import TransformersScorer
from mgll import kept_hashes
from mgll.formats import FormatError
from mgll.images.preprocessing import open_image
from mllm_adapters.contract.terms import HostError
from mllm_adapters.finetuning import finetune as module
from mllm_adapters.finetuning import loop
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.finetuning.forward import example_losses
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load
from mllm_adapters.loading.lora import add_lora
from mllm_adapters.prompting.answer_slot import letter_ids
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

HOST = get_host("llava")
SETTINGS = FinetuneSettings(rank=2, batch_size=4, steps=6, learning_rate=1e-2, checkpoint_every=2, log_every=1)


@pytest.fixture(scope="module")
def questions(photographs: list[Path]) -> list[TrainingQuestion]:
    return [
        TrainingQuestion(path, f"What is {i}?\nA. w\nB. x\nC. y\nD. z", "ABCD"[i % 4])
        for i, path in enumerate([*photographs, *photographs])
    ]


@pytest.fixture(scope="module")
def grafted(host_directory: Path, make_tower: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("graft") / "llava-mgll"
    graft_tower(HOST, host_directory, make_tower(), out)
    return out


def test_only_language_model_and_connector_learn(
    grafted: Path, questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    out = finetune(grafted, questions, tmp_path / "tuned", SETTINGS)
    before, after = load(grafted).model.state_dict(), load(out).model.state_dict()
    names = {name for name in after if "vision_tower" in name}
    assert names
    assert all(torch.equal(before[name], after[name]) for name in names)
    stored = load_file(out / "adapter_model.safetensors")
    assert all("language_model" in name or "multi_modal_projector" in name for name in stored)
    b = [tensor for name, tensor in stored.items() if "lora_B" in name]
    assert len(b) == 14
    assert all(tensor.abs().max() > 0 for tensor in b)
    old = before["model.multi_modal_projector.linear_1.weight"]
    new = next(t for n, t in stored.items() if n.endswith("multi_modal_projector.linear_1.weight"))
    assert not torch.equal(old, new)
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 6
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_grafts_and_adapters_can_be_read_by_whom_the_umask_lets(
    host_directory: Path, make_tower: Callable[..., Path], questions: list[TrainingQuestion], tmp_path: Path, mask: int
) -> None:
    before = os.umask(mask)
    try:
        graft_tower(HOST, host_directory, make_tower(), tmp_path / "graft")
        graft_tower(HOST, host_directory, make_tower(), tmp_path / "copied", copy=True)
        finetune(tmp_path / "graft", questions, tmp_path / "tuned", replace(SETTINGS, steps=2))
    finally:
        os.umask(before)
    stats = {path: path.stat() for path in tmp_path.rglob("*")}
    own = {path: found for path, found in stats.items() if path.is_dir() or found.st_nlink == 1}  # links are the host's
    assert all(path in own for path in (tmp_path / "copied").iterdir())
    assert {path.name for path in own} >= {"adapter_model.safetensors", "config.json", "graft"}
    wrong = {path: oct(found.st_mode) for path, found in own.items() if found.st_mode & 0o777 & mask}
    closed = {path: oct(found.st_mode) for path, found in own.items() if (0o664 & ~mask) & ~found.st_mode}
    assert not wrong
    assert not closed


def test_the_answer_and_nothing_else_is_supervised(grafted: Path, questions: list[TrainingQuestion]) -> None:
    loaded = load(grafted)
    batch = questions[:4]
    inputs = text_inputs(loaded, batch)
    prompts = [HOST.prompt(q.question) for q in batch]
    images = [open_image(q.image) for q in batch]
    whole = loaded.processor(images=images, text=prompts, padding=True, padding_side="left", return_tensors="pt")
    assert torch.equal(inputs["input_ids"][:, :-2], whole["input_ids"])
    answers = [HOST.answer(letter) for letter in "ABCD"]
    for row, q, prompt in zip(inputs["input_ids"], batch, prompts, strict=True):
        assert row[-2] == letter_ids(loaded.processor.tokenizer, prompt, answers)["ABCD".index(q.letter)]
        assert row[-1] == loaded.processor.tokenizer.eos_token_id

    labels = inputs["input_ids"].clone()
    labels[:, :-2] = -100
    with torch.no_grad():
        output = loaded.model(**inputs, pixel_values=whole["pixel_values"], labels=labels)
    found = example_losses(output.logits[:, -3:], inputs["input_ids"][:, -2:])
    torch.testing.assert_close(found.mean(), output.loss)


@pytest.mark.parametrize("layer", [-2, [-3, -1]])
def test_a_replayed_tower_gives_what_the_tower_gives(
    layer: int | list[int], grafted: Path, questions: list[TrainingQuestion]
) -> None:
    loaded = load(grafted)
    loaded.model.config.vision_feature_layer = layer
    if layer != -2:
        loaded.model.model.multi_modal_projector.linear_1 = torch.nn.Linear(32, 32)
    paths = [q.image for q in questions[:3]]
    inputs = text_inputs(loaded, questions[:3])
    plain = ImageInputs(loaded, paths)
    assert not plain.features
    with torch.no_grad():
        expected = loaded.model(**inputs, **plain.batch(paths)).logits
        replayed = ImageInputs(loaded, paths, kept=True)
        assert replayed.features
        for _ in range(2):
            found = loaded.model(**inputs, **replayed.batch(paths)).logits
            torch.testing.assert_close(found, expected)
        replayed.close()
        assert torch.equal(loaded.model(**inputs, **plain.batch(paths)).logits, expected)


def test_rank_zero_trains_the_connector_alone(grafted: Path, questions: list[TrainingQuestion], tmp_path: Path) -> None:
    out = finetune(grafted, questions, tmp_path / "tuned", replace(SETTINGS, rank=0, steps=2))
    names = load_file(out / "adapter_model.safetensors")
    assert len(names) == 4
    assert all("multi_modal_projector" in name for name in names)
    before, after = load(grafted).model, load(out).model
    key = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(before.get_parameter(key), after.get_parameter(key))
    tuned = after.model.multi_modal_projector.linear_1.weight
    assert not torch.equal(before.model.multi_modal_projector.linear_1.weight, tuned)


def metrics(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("questions_per_second", "memory_gib")} for line in lines]


FRESH = """
import sys, torch
from pathlib import Path
from safetensors.torch import save_file
from mgll.images.preprocessing import open_image
from mllm_adapters.loading.load import load
torch.set_num_threads(1)
tuned = load(sys.argv[1])
inputs = tuned.processor(images=open_image(sys.argv[2]), text=tuned.host.prompt("What?"), return_tensors="pt")
with torch.inference_mode():
    save_file({"logits": tuned.model(**inputs).logits}, sys.argv[3])
"""


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_logits(
    grafted: Path, questions: list[TrainingQuestion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trained model in memory against the directory loaded elsewhere, moved together with its base."""
    trained = []
    write = module.write_result
    monkeypatch.setattr(module, "write_result", lambda *a: (trained.append(a[3]), write(*a)))
    base = Path(shutil.copytree(grafted, tmp_path / "a" / "base"))
    finetune(base, questions, tmp_path / "a" / "tuned", replace(SETTINGS, steps=2))
    (tmp_path / "a").rename(tmp_path / "b")

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model, processor = trained[0].model.eval(), trained[0].processor
    inputs = processor(images=open_image(questions[0].image), text=HOST.prompt("What?"), return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs).logits
    torch.set_num_threads(threads)
    arguments = [str(tmp_path / "b" / "tuned"), str(questions[0].image), str(tmp_path / "logits.safetensors")]
    launches.run(["-c", FRESH, *arguments]).check_returncode()
    assert torch.equal(load_file(tmp_path / "logits.safetensors")["logits"], expected)


def test_a_killed_run_resumes_bit_for_bit(
    grafted: Path, questions: list[TrainingQuestion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed_at(step: int):
        count, real = iter(range(100)), loop._backward

        def wrapper(*arguments):
            if next(count) == step:
                raise Killed
            return real(*arguments)

        return wrapper

    whole = finetune(grafted, questions, tmp_path / "whole", SETTINGS)
    out = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_backward", killed_at(3))
        with pytest.raises(Killed):
            finetune(grafted, questions, out, SETTINGS)
    with pytest.raises(FormatError, match="unfinished fine-tune"):
        load(out)
    with pytest.raises(ValueError, match=r"settings\.rank: 2 -> 3"):
        finetune(grafted, questions, out, replace(SETTINGS, rank=3))
    finetune(grafted, questions, out, SETTINGS)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert metrics(out) == metrics(whole)
    assert not (out / "checkpoints").exists()


def test_a_finished_run_stays_and_another_is_refused(
    grafted: Path, questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, steps=1)
    out = finetune(grafted, questions, tmp_path / "tuned", settings)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    finetune(grafted, questions, out, settings)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(ValueError, match="another run"):
        finetune(grafted, questions[1:], out, settings)
    with pytest.raises(FormatError, match="fine-tuned directory already"):
        finetune(out, questions, tmp_path / "twice", settings)


def test_another_base_is_refused(
    grafted: Path, host_directory: Path, questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    base = Path(shutil.copytree(grafted, tmp_path / "base"))
    out = finetune(base, questions, tmp_path / "tuned", replace(SETTINGS, steps=1))
    shutil.rmtree(base)
    with pytest.raises(FormatError, match="is not there"):
        load(out)
    shutil.copytree(host_directory, base)
    with pytest.raises(FormatError, match="other weights than it was trained on"):
        load(out)


def test_lora_regex_must_stay_in_the_language_model(grafted: Path) -> None:
    for targets, match in (
        (r".*\.q_proj", "also matches outside"),
        (r".*language_model.*\.nothing", "matches no module"),
    ):
        with pytest.raises(HostError, match=match):
            add_lora(load(grafted).model, HOST, replace(SETTINGS, lora_targets=targets))


def test_lora_that_cannot_be_built_is_refused(grafted: Path, questions: list[TrainingQuestion], tmp_path: Path) -> None:
    for change, match in (
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"alpha": 0.0}, r"alpha is 0\.0"),
        ({"alpha": 1e30}, "at most 1000"),
        ({"rank": -1}, "rank is -1"),
        ({"dropout": 1.0}, "dropout is"),
        ({"lora_targets": "*("}, "no regular expression"),
    ):
        with pytest.raises(ValueError, match=match):
            finetune(grafted, questions, tmp_path / "tuned", replace(SETTINGS, **change))
        assert not (tmp_path / "tuned").exists()


def test_bad_runs_are_refused(grafted: Path, questions: list[TrainingQuestion], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fewer than one batch"):
        finetune(grafted, questions[:3], tmp_path / "tuned", SETTINGS)
    with pytest.raises(ValueError, match="'E'"):
        finetune(grafted, [*questions, replace(questions[0], letter="E")], tmp_path / "tuned", SETTINGS)
    missing = replace(questions[0], image=tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"gone\.png"):
        finetune(grafted, [*questions, missing], tmp_path / "tuned", SETTINGS)
    assert not (tmp_path / "tuned").exists()


TWO = """
import json, sys
from pathlib import Path
import torch
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion
torch.set_num_threads(1)
directory, out, settings, questions = json.loads(sys.argv[1])
questions = [TrainingQuestion(Path(image), question, letter) for image, question, letter in questions]
finetune(directory, questions, out, FinetuneSettings(**settings))
"""


@pytest.mark.slow
def test_two_processes_train_what_one_trains(grafted: Path, questions: list[TrainingQuestion], tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=3, dropout=0.0)
    one = finetune(grafted, questions, tmp_path / "one", settings)
    script = tmp_path / "two.py"
    script.write_text(TWO)
    rows = [(str(q.image), q.question, q.letter) for q in questions]
    arguments = json.dumps([str(grafted), str(tmp_path / "two"), asdict(settings), rows])
    for process in launches.start_several(2, [script, arguments], tmp_path / "log.txt"):
        process.join(300)
        assert process.exitcode == 0, (tmp_path / "log.txt").read_text()
    expected, found = (load_file(d / "adapter_model.safetensors") for d in (one, tmp_path / "two"))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)


def test_the_weights_under_a_tuned_directory_are_read_for_their_hash_once(
    grafted: Path, questions: list[TrainingQuestion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tuning, loading and the scorer's fingerprint all ask for it."""
    base, hashed, read = shutil.copytree(grafted, tmp_path / "base"), kept_hashes.sha256, []

    def counting(path: Path) -> str:
        read.append(Path(path))
        return hashed(path)

    monkeypatch.setattr(kept_hashes, "sha256", counting)
    monkeypatch.setattr(kept_hashes, "SMALL", 0)
    monkeypatch.setattr(kept_hashes, "SETTLED", 0.0)
    tuned = finetune(base, questions, tmp_path / "tuned", replace(SETTINGS, steps=1))
    first = TransformersScorer(tuned).fingerprint
    shards = [path for path in read if path.suffix == ".safetensors" and path.is_relative_to(base)]
    assert sorted(shards) == sorted(base.glob("*.safetensors"))
    assert TransformersScorer(tuned).fingerprint == first
    load(tuned)
    assert len([path for path in read if path.is_relative_to(base) and path.suffix == ".safetensors"]) == len(shards)
    shard = shards[0]
    damaged = bytearray(shard.read_bytes())
    damaged[-1] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(FormatError, match=f"other weights than it was trained on: {shard.name}"):
        load(tuned)
