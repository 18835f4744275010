"""Flip and colour jitter against texts that name sides and colours: switched off with a sentence, or refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgll.manifest.records import Record, write_manifest
from mgll.settings import ObjectiveSettings, PretrainSettings
from mgll.training.augmentation import settle_augmentation
from mgll.training.pretraining import pretrain
from mgll.vocabulary.diseases import diseases
from mgll.vocabulary.image_words import texts_that_name
from mgll.vocabulary.label_texts import describe_labels

SIDES = [
    "Left lung opacity",
    "right-sided effusion",
    "OD",
    "left_eye",
    "superotemporal vein",
    "a nasal haemorrhage",
    "at 3 o'clock",
    "dextroscoliosis",
    "XR HAND RT",
    "RLL opacity",
    "R pleural effusion, R>L",
    "œil gauche",
    "ojo derecho",
    "linkes Auge",
    "occhio destro",
    "левый глаз",
    "左眼",
    "颞侧视网膜",
    "오른쪽 폐",
    "العين اليمنى",
    "l",
]
NO_SIDES = [
    "upright film",
    "bright spot",
    "temporal lobe",
    "nasal cannula",
    "copyright",
    "leftover",
    "bilateral effusions",
    "lateral view",
    "the os",
    "R and L are letters",
    "",
]
COLOURS = [
    "orange-red background",
    "Reddish disc",
    "pale disc",
    "gelblicher Fleck",
    "tache blanche",
    "красный",
    "红色病灶",
]
NO_COLOURS = [
    "predicted",
    "white matter lesion",
    "greenstick fracture",
    "白内障",
    "黄斑",
    "covered",
    "scored",
    "Weiss ring",
]


@pytest.mark.parametrize("text", SIDES)
def test_sides_are_found(text):
    assert texts_that_name("side", [text]).texts == 1


@pytest.mark.parametrize("text", NO_SIDES)
def test_other_words_are_no_sides(text):
    assert texts_that_name("side", [text]).texts == 0


@pytest.mark.parametrize(("text", "texts"), [*((text, 1) for text in COLOURS), *((text, 0) for text in NO_COLOURS)])
def test_colours_are_found_and_other_words_are_none(text, texts):
    assert texts_that_name("colour", [text]).texts == texts


def test_the_tables_own_sentences_say_the_same_of_every_image_of_a_class():
    texts = [text for code in diseases() for own in describe_labels([code]).values() for text in own]
    assert texts_that_name("side", texts).texts == texts_that_name("colour", texts).texts == 0
    assert texts_that_name("side", [*texts, "Macroaneurysm of the temporal retina"]).texts == 1


def test_the_real_photographs_keep_their_flip(fundus_folder):
    from mgll.readers.fundus_folder import read_fundus_folder

    settings, said = settle_augmentation(PretrainSettings(), read_fundus_folder(fundus_folder)[0])
    assert (settings.flip, settings.colour_jitter) == (0.5, 0.0)
    assert len(said) == 1
    assert "colour jitter is off, not 0.1: 184 of 253 different texts ('orange' 166" in said[0]


def settled(*texts: str, **chosen: float | bool) -> tuple[PretrainSettings, tuple[str, ...]]:
    records = [Record(image="a", split="train", group="a", texts={"report": texts})]
    return settle_augmentation(PretrainSettings(**chosen), records)


def test_what_no_text_speaks_against_is_the_papers():
    settings, said = settled("Drusen", "Cataract")
    assert (settings.flip, settings.colour_jitter, said) == (0.5, 0.1, ())


def test_a_flip_that_nobody_asked_for_is_switched_off_and_one_asked_for_refused():
    texts = ("Left lung opacity", "left and right effusion", "Clear lungs")
    settings, (sentence,) = settled(*texts)
    assert (settings.flip, settings.colour_jitter) == (0.0, 0.1)
    assert "flip is off, not 0.5: 2 of 3 different texts ('left' 2, 'right' 1; such as 'Left lung opacity')" in sentence
    with pytest.raises(ValueError, match=r"flip 0\.25: 2 of 3 different texts .* set flip to 0 or leave it out"):
        settled(*texts, flip=0.25)
    assert settled(*texts, flip=0.0)[1] == ()
    settings, said = settled(*texts, flip=0.25, augment_against_texts=True)
    assert (settings.flip, settings.colour_jitter, said) == (0.25, 0.1, ())


def test_jitter_that_nobody_asked_for_is_switched_off_and_much_asked_for_refused():
    settings, (sentence,) = settled("A yellow spot")
    assert (settings.flip, settings.colour_jitter) == (0.5, 0.0)
    assert "colour jitter is off, not 0.1: 1 of 1 different texts ('yellow' 1; such as 'A yellow spot')" in sentence
    with pytest.raises(ValueError, match=r"colour_jitter 0\.3: 1 of 1 different texts"):
        settled("A yellow spot", colour_jitter=0.3)
    settings, (sentence,) = settled("A yellow spot", colour_jitter=0.1)
    assert settings.colour_jitter == 0.1
    assert "colour jitter 0.1 is kept as asked for" in sentence


def test_a_level_that_is_not_trained_on_says_nothing():
    records = [Record(image="a", split="train", group="a", texts={"side": ("left",), "disease": ("Drusen",)})]
    assert settle_augmentation(PretrainSettings(granularity={"side": "none"}), records)[0].flip == 0.5


@pytest.fixture
def sided(tmp_path: Path) -> PretrainSettings:
    """Sixteen pictures, dark on the side that their text names."""
    records = []
    for index in range(16):
        pixels = np.full((32, 32, 3), 200, dtype=np.uint8)
        side = ("left", "right")[index % 2]
        pixels[:, slice(16) if side == "left" else slice(16, 32)] = 40
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        texts = {"report": (f"{side} lung opacity",)}
        records.append(Record(image=f"{index}.png", split="train", group=f"p{index}", texts=texts))
    write_manifest(tmp_path / "m.jsonl", records)
    return PretrainSettings(
        manifest=str(tmp_path / "m.jsonl"),
        out=str(tmp_path / "run"),
        objective_settings=ObjectiveSettings(0.0, 1.0, 0.0, pointwise_bias=0.0, learn_bias=False),
        encoder="vit-nano-16",
        image_size=32,
        feature_width=16,
        epochs=60,
        batch_size=8,
        log_every=1,
        learning_rate=3e-4,
        warmup=0.3,
        crop_scale=1.0,
        remember_images=False,
    )


def losses(settings: PretrainSettings) -> list[float]:
    pretrain(settings)
    return [json.loads(line)["loss"] for line in (Path(settings.out) / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_sides_are_learned_because_the_flip_is_off_and_the_run_says_so(sided, capsys):
    own = losses(sided)
    assert "flip is off, not 0.5: 2 of 2 different texts" in capsys.readouterr().out
    assert json.loads((Path(sided.out) / "settings.json").read_text())["flip"] == 0.0
    flipped = losses(replace(sided, out=f"{sided.out}-flipped", flip=0.5, augment_against_texts=True))
    assert own[-1] < 0.01
    assert flipped[-1] == pytest.approx(math.log(2), abs=0.02)


def test_a_flip_asked_for_is_refused_before_anything_is_written(sided):
    with pytest.raises(ValueError, match="2 of 2 different texts"):
        pretrain(replace(sided, flip=0.5))
    assert not (Path(sided.out) / "settings.json").exists()
