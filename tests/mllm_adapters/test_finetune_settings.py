"""What can be asked of fine-tuning: parts of the tower, kinds of LoRA, stages, mixtures, caches, workers, accumulation."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mgll.formats import FormatError
from mgll.images.files import ImageError
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.manifest.shards import pack
from mgll.run_folder import read_run
from mllm_adapters.contract.finetune_record import read_finetune
from mllm_adapters.contract.terms import HostError
from mllm_adapters.finetuning import images, loop
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.finetuning.held_out import Validation
from mllm_adapters.finetuning.parameter_groups import parameter_groups
from mllm_adapters.hosts.registry import HOSTS
from mllm_adapters.loading.device_map import refuse_several
from mllm_adapters.loading.load import load
from mllm_adapters.loading.lora import add_lora
from mllm_adapters.loading.quantisation import refuse_quantisation
from mllm_adapters.loading.tower_parts import tower_blocks, tower_parameters
from mllm_adapters.settings import Conversation, FinetuneSettings, TrainingQuestion

SETTINGS = FinetuneSettings(
    rank=2, batch_size=4, steps=4, learning_rate=1e-2, tower_learning_rate=1e-2, checkpoint_every=2, log_every=1
)


@pytest.fixture(scope="module")
def questions(photographs: list[Path]) -> list[TrainingQuestion]:
    return [
        TrainingQuestion(path, f"What is {i}?\nA. w\nB. x\nC. y\nD. z", "ABCD"[i % 4], "word", f"patient-{i % 6}")
        for i, path in enumerate([*photographs, *photographs])
    ]


@pytest.fixture
def base(hosts: Callable[[str], Path]) -> Path:
    return hosts("llava")


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in metrics(run)]


@pytest.mark.slow_except("llava-last")
@pytest.mark.parametrize(("name", "tower"), [(name, tower) for name in HOSTS for tower in ("last", "full", "lora")])
def test_what_is_asked_of_the_tower_learns_and_is_loaded_again(
    name: str, tower: str, hosts: Callable[[str], Path], questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, steps=2, tower=tower, tower_layers=1)
    base = hosts(name)
    tuned = finetune(base, questions, tmp_path / "tuned", settings)
    before, loaded = load(base), load(tuned)
    assert read_finetune(tuned).trained["tower"] > 0
    assert (tuned / "tower.safetensors").is_file() == (tower != "lora")
    old, new = tower_parameters(before.model, before.host), tower_parameters(loaded.model, loaded.host)
    plain = {name.replace(".base_layer", ""): tensor for name, tensor in new.items()}
    assert plain.keys() == old.keys()
    changed = {name for name in old if not torch.equal(old[name], plain[name])}
    if tower == "lora":
        assert not changed
        adapted = [n for n, p in loaded.model.named_parameters() if f"{loaded.host.tower}." in n and "lora_B" in n]
        assert any(bool(loaded.model.get_parameter(n).any()) for n in adapted)
        return
    stored = load_file(tuned / "tower.safetensors")
    assert changed == stored.keys()
    assert all(torch.equal(plain[n], tensor) for n, tensor in stored.items())
    if tower == "last":
        blocks = tower_blocks(before.model, before.host)
        (block,) = {b for b in blocks if any(n.startswith(f"{b}.") for n in changed)}
        assert all(n.startswith(f"{block}.") for n in changed)


def test_the_last_block_is_the_last_that_the_host_reads(
    base: Path, questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    """LLaVA reads the hidden state before the last: of two blocks the second never learns."""
    tuned = finetune(base, questions, tmp_path / "tuned", replace(SETTINGS, steps=1, tower="last", tower_layers=1))
    assert {name.split("layers.")[1][0] for name in load_file(tuned / "tower.safetensors")} == {"0"}


def test_tower_files_that_do_not_fit_are_refused(base: Path, questions: list[TrainingQuestion], tmp_path: Path) -> None:
    tuned = finetune(base, questions, tmp_path / "tuned", replace(SETTINGS, steps=1, tower="full"))
    stored = load_file(tuned / "tower.safetensors")
    name, tensor = next(iter(stored.items()))
    for content, match in (
        ({**stored, name: tensor * float("nan")}, "NaN"),
        ({**stored, "lm_head.weight": tensor.clone()}, r"lm_head\.weight is surplus"),
        ({**stored, name: tensor.flatten()[:1]}, "the tower has"),
    ):
        save_file(content, tuned / "tower.safetensors")
        with pytest.raises(FormatError, match=match):
            load(tuned)
    (tuned / "tower.safetensors").unlink()
    with pytest.raises(FormatError, match="the run trained the tower"):
        load(tuned)
    frozen = finetune(base, questions, tmp_path / "frozen", replace(SETTINGS, steps=1))
    save_file(stored, frozen / "tower.safetensors")
    with pytest.raises(FormatError, match="froze the tower"):
        load(frozen)


def test_every_group_has_its_own_learning_rate_and_blocks_decay(host_directory: Path) -> None:
    loaded = load(host_directory)  # three blocks
    settings = FinetuneSettings(
        rank=2, learning_rate=1, connector_learning_rate=2, tower_learning_rate=4, layer_decay=0.5
    )
    model = add_lora(loaded.model, loaded.host, settings)
    for name, parameter in tower_parameters(model, loaded.host).items():
        parameter.requires_grad_("layers.2" not in name and "post_" not in name)
    groups = {group["name"]: group for group in parameter_groups(model, loaded.host, settings)}
    assert {name: group["peak"] for name, group in groups.items()} == {
        "connector": 2,
        "lora": 1,
        "tower-0": 4,
        "tower-1": 2,
        "tower-2": 1,
    }
    names = {id(p): n for n, p in model.named_parameters()}
    found = {group: {names[id(p)] for p in groups[group]["params"]} for group in groups}
    assert all("layers.1." in name for name in found["tower-0"])
    assert all("layers.0." in name for name in found["tower-1"])
    assert any("patch_embedding" in name for name in found["tower-2"])
    assert sum(map(len, found.values())) == sum(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("kind", ["rslora", "dora"])
def test_kinds_of_lora_are_trained_and_loaded(
    kind: str, base: Path, questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    tuned = finetune(base, questions, tmp_path / "tuned", replace(SETTINGS, steps=2, **{kind: True}))
    config = json.loads((tuned / "adapter_config.json").read_text())
    assert config[f"use_{kind}"] is True
    assert any("magnitude" in name for name in load_file(tuned / "adapter_model.safetensors")) == (kind == "dora")
    load(tuned)
    (tuned / "adapter_config.json").write_text(json.dumps(config | {f"use_{kind}": False}))
    with pytest.raises(FormatError, match="not the adapter of this run"):
        load(tuned)


def test_accumulated_batches_make_the_same_step(base: Path, questions: list[TrainingQuestion], tmp_path: Path) -> None:
    settings = replace(SETTINGS, dropout=0.0)
    whole = finetune(base, questions, tmp_path / "whole", settings)
    parts = finetune(base, questions, tmp_path / "parts", replace(settings, gradient_accumulation_steps=4))
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)
    ours, theirs = (load_file(run / "adapter_model.safetensors") for run in (whole, parts))
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-3, atol=1e-5)


def test_accumulation_that_the_launcher_asks_for_is_done_or_refused(
    base: Path, questions: list[TrainingQuestion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "3")
    with pytest.raises(ValueError, match="batch_size 4 does not divide by 1 processes times 3 accumulated batches"):
        finetune(base, questions, tmp_path / "tuned", SETTINGS)
    with pytest.raises(ValueError, match="2 here and 3 there; say it once"):
        finetune(base, questions, tmp_path / "tuned", replace(SETTINGS, gradient_accumulation_steps=2))
    counted: list[int] = []
    monkeypatch.setattr(loop, "_backward", lambda *a, real=loop._backward: (counted.append(1), real(*a))[1])
    finetune(base, questions, tmp_path / "tuned", replace(SETTINGS, batch_size=6, steps=2))
    assert len(counted) == 6


def test_the_weights_with_the_lowest_loss_on_held_out_patients_are_the_result(
    base: Path, questions: list[TrainingQuestion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([2.0, 1.0, 3.0, 4.0])
    asked: list[Validation] = []

    def validate(*arguments: Any) -> Validation:
        asked.append(real(*arguments))
        return replace(asked[-1], loss=next(found))

    real = loop.validate
    monkeypatch.setattr(loop, "validate", validate)
    settings = replace(SETTINGS, held_out=0.2, validate_every=1, dropout=0.0)
    tuned = finetune(base, questions, tmp_path / "tuned", settings)
    record = read_finetune(tuned)
    assert record.validation == {"step": 2, "loss": 1.0, "accuracy": asked[1].accuracy}
    assert record.others["held_out"]["count"] == 2
    assert record.questions["count"] == 10
    assert [line["validation_loss"] for line in metrics(tuned)] == [2.0, 1.0, 3.0, 4.0]
    monkeypatch.setattr(loop, "validate", real)
    factor = loop.learning_rate_factor
    monkeypatch.setattr(loop, "learning_rate_factor", lambda step, *_: factor(step, 4, settings.warmup))
    two = finetune(base, questions, tmp_path / "two", replace(settings, steps=2))
    ours, theirs = (load_file(run / "adapter_model.safetensors") for run in (tuned, two))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_validation_asks_as_scoring_does(base: Path, questions: list[TrainingQuestion], tmp_path: Path) -> None:
    from benchmark.scorers.scorer import Ask
    from benchmark.scorers.transformers_scorer import TransformersScorer
    from mgll.images.preprocessing import open_image

    tuned = finetune(
        base, questions[:8], tmp_path / "tuned", replace(SETTINGS, validate_every=4), held_out=questions[8:]
    )
    scorer = TransformersScorer(tuned)
    right = 0
    for q in questions[8:]:
        wording, *options, _ = [*q.question.splitlines(), ""]
        names = tuple(option.split(". ")[1] for option in options)
        (score,) = scorer.score([Ask(open_image(q.image), q.question, (names,))], ["letter"])
        del wording
        right += max(range(4), key=lambda place: score[0].log_probs[place]) == "ABCD".index(q.letter)
    assert read_finetune(tuned).validation["accuracy"] == pytest.approx(right / 4)


def test_captions_train_the_connector_before_the_questions(
    base: Path, questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    captions = [Conversation(q.image, (("Describe it.", f"a photograph of {i}"),)) for i, q in enumerate(questions)]
    settings = replace(SETTINGS, align_epochs=2, steps=1, connector_learning_rate=1e-2)
    tuned = finetune(base, questions, tmp_path / "tuned", settings, captions=captions)
    assert len(losses(tuned / "aligned")) == 6
    assert losses(tuned / "aligned")[-1] < losses(tuned / "aligned")[0]
    aligned, before = load(tuned / "aligned"), load(base)
    assert not [name for name, _ in aligned.model.named_parameters() if "lora_" in name]
    name = "model.multi_modal_projector.linear_1.weight"
    start = aligned.model.get_submodule("model.multi_modal_projector.linear_1").weight
    assert not torch.equal(start, before.model.get_parameter(name))
    still = replace(settings, connector_learning_rate=1e-2, learning_rate=1e-12)
    again = finetune(base, questions, tmp_path / "again", still, captions=captions)
    moved = load(again).model.get_submodule("model.multi_modal_projector.linear_1").weight
    assert float((moved - start).abs().max()) <= 1e-2 * 1.01  # one step of Adam from the aligned connector
    for change, match in (
        ({"captions": ()}, "there are 0 captions"),
        ({"captions": captions[:3]}, "fewer than one batch"),
    ):
        with pytest.raises(ValueError, match=match):
            finetune(base, questions, tmp_path / "bad", settings, **change)


def test_conversations_are_mixed_in_and_learnt(base: Path, questions: list[TrainingQuestion], tmp_path: Path) -> None:
    chats = [Conversation(q.image, (("Well?", "Yes."), ("Sure?", "Quite."))) for q in questions[:3]]
    settings = replace(SETTINGS, chat_share=0.5, steps=4)
    tuned = finetune(base, questions, tmp_path / "tuned", settings, chats=chats)
    assert read_finetune(tuned).others["chats"]["count"] == 3
    assert losses(tuned)[-1] < losses(tuned)[0]
    with pytest.raises(ValueError, match=r"others\.chats"):
        finetune(base, questions, tmp_path / "tuned", settings, chats=chats[:2])


@pytest.mark.parametrize("name", ["llava", "internvl"])
def test_kept_features_give_the_loss_of_the_tower_itself_and_are_made_once(
    name: str,
    hosts: Callable[[str], Path],
    questions: list[TrainingQuestion],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, cache = hosts(name), str(tmp_path / "cache")
    made: list[int] = []
    real = images.Images._encoded
    monkeypatch.setattr(images.Images, "_encoded", lambda *a: (made.append(1), real(*a))[1])
    plain = finetune(base, questions, tmp_path / "plain", replace(SETTINGS, image_cache_gib=0.0))
    memory = finetune(base, questions, tmp_path / "memory", SETTINGS)
    made.clear()
    disk = finetune(base, questions, tmp_path / "disk", replace(SETTINGS, feature_cache=cache))
    assert len(made) == 7  # six images, and the first that tells how large features are
    made.clear()
    again = finetune(base, questions, tmp_path / "again", replace(SETTINGS, feature_cache=cache, workers=2))
    assert len(made) == 1
    tiny = replace(SETTINGS, feature_cache=str(tmp_path / "small"), feature_cache_gib=3e-6)
    partly = finetune(base, questions, tmp_path / "partly", tiny)
    kept = sum(path.stat().st_size for path in (tmp_path / "small").rglob("*.features"))
    whole = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.features"))
    assert 0 < kept < whole
    for run in (disk, again, partly):  # bit for bit: each image goes through the tower alone
        assert losses(run) == losses(memory)
        assert (run / "adapter_model.safetensors").read_bytes() == (memory / "adapter_model.safetensors").read_bytes()
    assert losses(plain) == pytest.approx(losses(memory), rel=1e-4)


def test_other_towers_and_looks_have_features_of_their_own(
    base: Path, questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, steps=6, feature_cache=str(tmp_path / "cache"))
    finetune(base, questions, tmp_path / "plain", settings)
    views = replace(settings, crop_scale=0.5, views=2)
    finetune(base, questions, tmp_path / "views", views)
    folders = sorted((tmp_path / "cache").iterdir())
    counts = sorted(len(index.read_text().splitlines()) for folder in folders for index in folder.glob("*.index"))
    assert counts == [6, 12]  # six images once, and two views of each
    fresh = replace(views, views=None)
    finetune(base, questions, tmp_path / "fresh", fresh)
    assert sorted((tmp_path / "cache").iterdir()) == folders  # a new view each epoch is not worth keeping


def test_workers_make_the_batches_that_the_process_itself_would_make(
    base: Path, questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, crop_scale=0.5, steps=6)
    alone = finetune(base, questions, tmp_path / "alone", settings)
    helped = finetune(base, questions, tmp_path / "helped", replace(settings, workers=2))
    assert losses(alone) == losses(helped)


def test_images_in_shards_are_the_same_images(base: Path, questions: list[TrainingQuestion], tmp_path: Path) -> None:
    paths = list(dict.fromkeys(q.image for q in questions))
    records = [Record(image=str(p), split="train", group=str(i), texts={"a": ("b",)}) for i, p in enumerate(paths)]
    write_manifest(tmp_path / "manifest.jsonl", records)
    packed = read_manifest(pack(tmp_path / "manifest.jsonl", tmp_path / "shards", images=4))
    place = {record.group: Path(record.image) for record in packed}
    inside = {path: place[str(i)] for i, path in enumerate(paths)}
    plain = finetune(base, questions, tmp_path / "plain", SETTINGS)
    shards = finetune(base, [replace(q, image=inside[q.image]) for q in questions], tmp_path / "tuned", SETTINGS)
    assert losses(shards) == losses(plain)
    finetune(base, questions, shards, SETTINGS)  # the very same run, by content


def test_numbers_of_each_step_are_logged(base: Path, questions: list[TrainingQuestion], tmp_path: Path) -> None:
    tuned = finetune(base, questions, tmp_path / "tuned", replace(SETTINGS, warmup=0.0, gradient_checkpointing=True))
    for number, line in enumerate(metrics(tuned), start=1):
        assert line["step"] == number
        assert line["learning_rate"]["lora"] == pytest.approx(1e-2 * line["learning_rate_factor"])
        assert line["learning_rate"]["connector"] == pytest.approx(1e-3 * line["learning_rate_factor"])
        assert line["gradient_norm"] > 0
        assert line["questions_per_second"] > 0
        assert line["memory_gib"] > 0


def test_settings_that_only_change_the_work_may_differ_on_resuming(
    base: Path, questions: list[TrainingQuestion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def stop(step: int, *rest: Any) -> float:
        if step == 3:
            raise Killed
        return real(step, *rest)

    real = loop.learning_rate_factor
    whole = finetune(base, questions, tmp_path / "whole", SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "learning_rate_factor", stop)
        with pytest.raises(Killed):
            finetune(base, questions, tmp_path / "killed", SETTINGS)
    assert read_run(tmp_path / "killed" / "run.json", "a run")["may_change"]["workers"] == 0
    finetune(base, questions, tmp_path / "killed", replace(SETTINGS, workers=1, checkpoint_every=1))
    assert losses(tmp_path / "killed") == losses(whole)
    name = "adapter_model.safetensors"
    assert (tmp_path / "killed" / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"held_out": 1.5}, "held_out is 1.5; give a number from 0 to 0.9"),
        ({"chat_share": -0.1}, "chat_share is -0.1"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps is 0; give a number from 1 on"),
        ({"layer_decay": float("nan")}, "layer_decay is nan"),
        ({"workers": -1}, "workers is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"tower": "lora", "rank": 0}, "rank 0 trains no LoRA"),
        ({"align_epochs": 1}, "there are 0 captions"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_loaded(
    change: dict[str, Any], match: str, base: Path, questions: list[TrainingQuestion], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=match):
        finetune(base, questions, tmp_path / "tuned", replace(SETTINGS, **change))
    assert not (tmp_path / "tuned").exists()


def test_quantisation_says_what_it_lacks() -> None:
    refuse_quantisation("no", "cpu", "ZeRO-3")
    with pytest.raises(ValueError, match=r"bitsandbytes, which is not installed|exclude each other"):
        refuse_quantisation("nf4", "cuda", "ZeRO-3")
    with pytest.raises(ValueError, match="quantize nf4: bitsandbytes does not run on mps"):
        refuse_quantisation("nf4", "mps")
    with pytest.raises(ValueError, match="device_map spreads one model over all cards, and there are 2 processes"):
        refuse_several(2)


def test_a_tower_without_blocks_cannot_have_its_last_ones_trained(base: Path) -> None:
    loaded = load(base)
    loaded.model.model.vision_tower = torch.nn.Linear(2, 2)
    with pytest.raises(HostError, match="no chain of blocks"):
        tower_blocks(loaded.model, loaded.host)


@pytest.mark.parametrize("workers", [0, 1])
def test_all_images_that_cannot_be_read_are_named_together(
    base: Path, questions: list[TrainingQuestion], tmp_path: Path, workers: int
) -> None:
    broken = [tmp_path / f"{number}.jpg" for number in range(2)]
    for path, question in zip(broken, questions[1:], strict=False):
        path.write_bytes(question.image.read_bytes()[:100])
    asked = [replace(question, image=path) for question, path in zip(questions[1:], broken, strict=False)]
    settings = replace(SETTINGS, workers=workers)
    with pytest.raises(
        ImageError, match=r"^2 images cannot be read, of \d+ looked at: .*0\.jpg: [^\n]*1\.jpg: [^\n]*$"
    ):
        finetune(base, [questions[0], *asked, *questions[3:]], tmp_path / "tuned", settings)
