"""What fine-tuning learns from: conversations, questions held out, mixtures, views of images, features that are kept."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mgll.formats import FormatError
from mgll.manifest.records import Record, write_manifest
from mllm_adapters.finetuning.augmentation import PLAIN, augmented, refuse_contradictions, view_of_epoch
from mllm_adapters.finetuning.conversations import captions, read_conversations
from mllm_adapters.finetuning.feature_store import DiskStore
from mllm_adapters.finetuning.held_out import hold_out
from mllm_adapters.finetuning.mixture import mixture
from mllm_adapters.finetuning.texts import IGNORED, Texts, single_turns
from mllm_adapters.hosts.registry import HOSTS, get_host
from mllm_adapters.loading.load import load
from mllm_adapters.settings import Conversation, FinetuneSettings, TrainingQuestion

SIZE = (41, 30)
TURNS = (("What is it?", "An eye, on the left."), ("Is it well?", "No."))


@pytest.mark.slow_except("llava", "instructblip")
@pytest.mark.parametrize("name", HOSTS)
def test_whole_replies_are_learnt_and_nothing_else(
    name: str, hosts: Callable[[str], Path], photographs: list[Path]
) -> None:
    loaded = load(hosts(name))
    tokenizer, host = loaded.processor.tokenizer, get_host(name)
    chat, question = Conversation(photographs[0], TURNS), TrainingQuestion(photographs[0], "Which?", "B")
    (first, *_) = single_turns(host, [chat])
    batch = Texts(loaded).batch([question, first], [SIZE, SIZE])
    said = [tokenizer.decode([token for token in row if token != IGNORED]) for row in batch.labels.tolist()]
    end = tokenizer.eos_token if host.ends_with_eos else ""
    replies = [f"{host.answer(reply)}{end}" for _, reply in first.turns]
    assert said[0].replace(" ", "") == f"{host.answer('B')}{end}".replace(" ", "")
    assert said[1].replace(" ", "") == "".join(replies).replace(" ", "")
    assert batch.questions.tolist() == [True, False]
    answered = batch.inputs.get("decoder_input_ids", batch.inputs["input_ids"])[:, -batch.labels.shape[1] :]
    learnt = batch.labels != IGNORED
    assert torch.equal(answered[learnt], batch.labels[learnt])
    if len(first.turns) > 1:  # the later question is read, without a second image or preamble
        whole = tokenizer.decode(batch.inputs["input_ids"][1])
        assert whole.count("Is it well?") == 1
        assert not host.preamble or whole.count(host.preamble.strip()) == 1


def test_a_host_that_reads_one_question_gets_conversations_turn_by_turn(photographs: list[Path]) -> None:
    chat = Conversation(photographs[0], TURNS)
    assert single_turns(get_host("llava"), [chat]) == [chat]
    assert [found.turns for found in single_turns(get_host("instructblip"), [chat])] == [(turn,) for turn in TURNS]


def test_long_conversations_are_cut_and_counted(hosts: Callable[[str], Path], photographs: list[Path]) -> None:
    loaded = load(hosts("llava"))
    chat = Conversation(photographs[0], (("Why?", "Because. " * 400),))
    batch = Texts(loaded, max_tokens=600).batch([chat, Conversation(photographs[0], TURNS)], [SIZE, SIZE])
    assert batch.inputs["input_ids"].shape[1] == 600
    assert batch.cut == 1


def test_conversations_are_read_and_what_is_left_out_is_counted(photographs: list[Path], tmp_path: Path) -> None:
    said = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "An eye."}]
    entries = [
        {"image": photographs[0].name, "conversations": said * 2},
        {"conversations": said},
        {"image": "gone.png", "conversations": said},
    ]
    (tmp_path / "chats.json").write_text(json.dumps(entries))
    found, left_out = read_conversations(tmp_path / "chats.json", photographs[0].parent)
    assert found == [Conversation(photographs[0], (("What?", "An eye."),) * 2)]
    assert left_out == {"has no image": 1, "its image is not there": 1}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "not JSON"),
        ("{}", "a list of conversations is needed, found dict"),
        ("[]", "the list is empty"),
        ("[1]", "entry 0 is no object"),
        (
            '[{"image": 1, "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]',
            "one path",
        ),
        ('[{"image": "a", "conversations": [{"from": "human", "value": "a"}]}]', "in turn"),
        ('[{"image": "a", "conversations": [{"from": "gpt", "value": "a"}, {"from": "gpt", "value": "b"}]}]', "turn 0"),
        (
            '[{"image": "a", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": " "}]}]',
            "empty",
        ),
        (
            '[{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]',
            "no conversation can",
        ),
    ],
)
def test_bad_conversations_are_refused_by_entry(content: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "chats.json").write_text(content)
    with pytest.raises(FormatError, match=match):
        read_conversations(tmp_path / "chats.json")


def test_captions_are_all_texts_of_the_training_images(photographs: list[Path], tmp_path: Path) -> None:
    texts = {"disease": ("drusen",), "explanation": ("yellow spots",)}
    records = [
        Record(image=str(photographs[0]), split="train", group="a", texts=texts),
        Record(image=str(photographs[1]), split="test", group="b", texts=texts),
        Record(image=str(photographs[2]), split="train", group="c", texts={}),
    ]
    write_manifest(tmp_path / "manifest.jsonl", records)
    (found,) = captions(tmp_path / "manifest.jsonl")
    assert found.image == photographs[0]
    assert found.turns[0][1] == "drusen, yellow spots"
    write_manifest(tmp_path / "none.jsonl", records[2:])
    with pytest.raises(FormatError, match="no captions"):
        captions(tmp_path / "none.jsonl")


def test_whole_patients_are_held_out_the_same_ones_for_a_seed() -> None:
    questions = [TrainingQuestion(Path(f"{i}.png"), str(i), "A", group=f"patient-{i % 10}") for i in range(40)]
    trained, held = hold_out(questions, 0.2, seed=3)
    groups = [{q.group for q in part} for part in (trained, held)]
    assert len(groups[1]) == 2
    assert not groups[0] & groups[1]
    assert len(trained) + len(held) == 40
    assert hold_out(questions[::-1], 0.2, seed=3)[1] == held[::-1]
    assert {q.group for q in hold_out(questions, 0.2, seed=4)[1]} != groups[1]
    assert hold_out(questions, 0.0, seed=3) == (questions, [])
    with pytest.raises(ValueError, match="of one patient"):
        hold_out(questions[::10], 0.2, seed=3)


def test_each_batch_holds_its_share_of_conversations_and_every_one_has_its_turn() -> None:
    order = mixture(FinetuneSettings(batch_size=8, chat_share=0.25), questions=24, chats=6)
    steps = list(order.batches(0, 12))
    assert order.steps_per_epoch == 4
    assert all(sum(index >= 24 for index in batch) == 2 for _, _, batch in steps)
    drawn = [index for _, _, batch in steps for index in batch if index >= 24]
    assert sorted(drawn[:6]) == sorted(drawn[6:12]) == list(range(24, 30))
    assert sorted(i for _, _, batch in steps[:4] for i in batch if i < 24) == list(range(24))
    assert list(order.batches(7, 12)) == steps[7:]
    for settings, chats in ((FinetuneSettings(chat_share=0.5), 0), (FinetuneSettings(), 3)):
        with pytest.raises(ValueError, match="give both a share and a file, or neither"):
            mixture(settings, 24, chats)


def test_views_keep_the_size_and_follow_seed_image_and_number() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8))
    settings = FinetuneSettings(crop_scale=0.5, flip=0.5, colour_jitter=0.1, views=3)
    views = [augmented(image, settings, "a", number) for number in range(4)]
    assert {view.size for view in views} == {image.size}
    assert len({view.tobytes() for view in views}) == 4
    assert augmented(image, settings, "a", 2).tobytes() == views[2].tobytes()
    assert augmented(image, settings, "b", 2).tobytes() != views[2].tobytes()
    assert augmented(image, settings, "a", PLAIN) is image
    assert [view_of_epoch(settings, epoch) for epoch in range(4)] == [0, 1, 2, 0]
    assert view_of_epoch(FinetuneSettings(), 5) == PLAIN


def test_augmentation_that_makes_a_text_untrue_is_refused() -> None:
    with pytest.raises(ValueError, match="name a side"):
        refuse_contradictions(FinetuneSettings(flip=0.5), ["What does the left eye show?"])
    with pytest.raises(ValueError, match="name a colour"):
        refuse_contradictions(FinetuneSettings(colour_jitter=0.4), ["Is the spot yellow?"])
    refuse_contradictions(FinetuneSettings(colour_jitter=0.1, flip=0.5), ["Is the spot yellow?"])


def test_features_survive_the_process_and_a_full_folder_takes_no_more(tmp_path: Path) -> None:
    tensors = {"pixel_values": torch.randn(1, 4, 8, dtype=torch.bfloat16), "grid": torch.tensor([[1, 2, 3]])}
    store = DiskStore(tmp_path, most=2000)
    for key in "abcdefghijklmnop":
        store.put(key, tensors, (41, 30))
    kept = [key for key in "abcdefghijklmnop" if store.size(key)]
    assert 1 < len(kept) < 16
    assert sum(path.stat().st_size for path in tmp_path.glob("*.features")) <= 2000
    again = DiskStore(tmp_path, most=2000)
    assert [key for key in "abcdefghijklmnop" if again.size(key) == (41, 30)] == kept
    for name, tensor in again.get(kept[-1]).items():
        assert torch.equal(tensor, tensors[name])
    again.put("z", tensors, (41, 30))
    assert again.size("z") is None


def test_what_a_kill_left_half_written_is_not_found(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, most=1e6)
    for key in "ab":
        store.put(key, {"pixel_values": torch.ones(4)}, (3, 2))
    (index,), (features,) = tmp_path.glob("*.index"), tmp_path.glob("*.features")
    features.write_bytes(features.read_bytes()[:-5])
    with index.open("a") as file:
        file.write('["c", 12')
    again = DiskStore(tmp_path, most=1e6)
    assert again.size("a")
    assert again.size("b") is None
    assert again.size("c") is None
    again.put("b", {"pixel_values": torch.zeros(4)}, (3, 2))
    assert torch.equal(DiskStore(tmp_path, most=1e6).get("b")["pixel_values"], torch.zeros(4))
