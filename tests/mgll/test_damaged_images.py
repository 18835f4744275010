"""A hundred damaged images of every kind: named once each, counted, survived; one more than allowed stops the run."""

import json
import pickle
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import launches
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_text_models import bert

from mgll.manifest.records import Record, write_manifest
from mgll.settings import PretrainSettings
from mgll.training.pretraining import BadImagesError, pretrain

RECIPE = Path(__file__).parents[2] / "recipes" / "pretrain_mgll.py"
WHOLE = 300


def truncated(path: Path, picture: Image.Image) -> None:
    picture.save(path, "JPEG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bomb(path: Path, picture: Image.Image) -> None:
    """A PNG that says it is 900 megapixels."""
    picture.save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 30_000, 30_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


def broken_bits(path: Path, picture: Image.Image) -> None:
    picture.save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[60] ^= 255
    path.write_bytes(content)


#: kind -> ending, how a file of it is made, what the list says of it
DAMAGE: dict[str, tuple[str, Callable[[Path, Image.Image], object], str]] = {
    "truncated": ("jpg", truncated, "damaged image"),
    "empty": ("png", lambda path, _: path.touch(), "the file is empty"),
    "text": ("png", lambda path, _: path.write_text("<html>404</html>"), "not an image that Pillow can read"),
    "missing": ("png", lambda path, _: None, "no such image"),
    "folder": ("png", lambda path, _: path.mkdir(), "no such image"),
    "bomb": ("png", bomb, "900000000 pixels"),
    "strip": ("png", lambda path, _: Image.new("L", (20_001, 300)).save(path), "too narrow a strip"),
    "bits": ("png", broken_bits, "damaged image"),
    "floats": ("npz", lambda path, _: np.savez(path, image=np.zeros((4, 4))), "found float64"),
    "zip": ("npz", lambda path, _: path.write_bytes(b"PK\3\4 and no more"), "damaged npz file"),
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Three hundred whole images, also of modes that are seldom met, and ten of each kind of damage."""
    folder = tmp_path_factory.mktemp("photographs")
    random, names = np.random.default_rng(0), []
    for index in range(WHOLE):
        picture = Image.fromarray(random.integers(0, 255, (24, 24, 3), dtype=np.uint8))
        names.append(f"whole-{index}.{'tif' if index % 20 == 0 else 'png'}")
        (picture.convert(("CMYK", "I", "F", "1", "YCbCr")[index // 20 % 5]) if index % 20 == 0 else picture).save(
            folder / names[-1]
        )
    for kind, (ending, make, _) in DAMAGE.items():
        for index in range(10):
            names.append(f"{kind}-{index}.{ending}")
            make(folder / names[-1], picture)
    records = [
        Record(image=name, split="train", group=name, texts={"disease": (f"d{i % 3}",), "explanation": (f"e{i % 5}",)})
        for i, name in enumerate(names)
    ]
    write_manifest(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


@pytest.fixture
def settings(manifest, tmp_path) -> PretrainSettings:
    return PretrainSettings(
        manifest=str(manifest),
        out=str(tmp_path / "run"),
        encoder="vit-nano-16",
        encoder_options={"num_hidden_layers": 1},
        image_size=16,
        feature_width=16,
        epochs=2,
        batch_size=40,  # every image takes part in every epoch
        checkpoint_every=3,
        log_every=1,
        text_encoder=bert(tmp_path / "bert"),
        max_bad_share=0.25,  # exactly the damage of the manifest
    )


def listed(settings: PretrainSettings) -> list[tuple[str, str]]:
    """Name and reason of each line of the list."""
    lines = (Path(settings.out) / "damaged_images.txt").read_text().splitlines()
    return [(Path(path).name, why) for path, why in (line.split(": ", 1) for line in lines)]


def check_list(settings: PretrainSettings) -> None:
    found = listed(settings)
    assert [name for name, _ in found] == sorted(f"{kind}-{n}.{DAMAGE[kind][0]}" for kind in DAMAGE for n in range(10))
    for name, why in found:
        assert DAMAGE[name.split("-")[0]][2] in why, name


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_hundred_damaged_images_are_named_counted_and_survived(settings, workers, capsys):
    tower = pretrain(replace(settings, workers=workers))
    check_list(settings)
    assert f"100 damaged images were left out; {settings.out}/damaged_images.txt lists them" in capsys.readouterr().out
    lines = [json.loads(line) for line in (Path(settings.out) / "metrics.jsonl").read_text().splitlines()]
    assert [line["damaged"] for line in lines[9:]] == [100] * 11
    assert all(tensor.isfinite().all() for tensor in load_file(tower).values())


@pytest.mark.slow
def test_a_resumed_run_names_each_once_too(settings, tmp_path):
    undisturbed = load_file(pretrain(replace(settings, out=str(tmp_path / "undisturbed"))))

    def kill(step: int) -> None:
        if step == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(settings, after_step=kill)
    resumed = load_file(pretrain(replace(settings, workers=2)))  # as many workers as one likes
    check_list(settings)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in undisturbed.items())


@pytest.mark.slow
def test_one_more_than_allowed_stops_the_run_with_the_list(settings):
    arguments = {name: getattr(settings, name) for name in ("manifest", "out", "encoder", "text_encoder")}
    arguments |= {"image_size": 16, "feature_width": 16, "epochs": 1, "batch_size": 40, "max_bad_share": 0.2475}
    ended = launches.run([RECIPE, *(part for n, value in arguments.items() for part in (f"--{n}", str(value)))])
    assert ended.returncode == 1
    assert "error: 100 of 400 training images are damaged, more than the allowed share of 24.8%" in ended.stderr
    assert "Traceback" not in ended.stderr
    check_list(settings)
    assert not (Path(settings.out) / "mgll.ckpt").exists()


def test_a_stopped_run_goes_on_when_more_is_allowed_or_the_images_are_whole_again(settings, manifest):
    with pytest.raises(BadImagesError, match=r"more than the allowed share of 10\.0%"):
        pretrain(replace(settings, max_bad_share=0.1, checkpoint_every=1))
    found = listed(settings)
    assert 40 < len(found) <= 80  # the batch that went beyond 40
    mended = manifest.parent / found[0][0]
    before = mended.read_bytes()
    Image.new("RGB", (24, 24)).save(mended, "PNG" if mended.suffix == ".png" else "JPEG")
    pretrain(replace(settings, checkpoint_every=1))
    mended.write_bytes(before)
    assert dict(listed(settings))[mended.name] == "could not be read in training, and can be now"


def test_a_batch_without_any_readable_image_teaches_nothing(settings, tmp_path):
    records = [
        Record(image=f"gone-{n}.png", split="train", group=str(n), texts={"a": (f"a{n % 3}",), "b": ("b",)})
        for n in range(16)
    ]
    write_manifest(tmp_path / "manifest.jsonl", records)
    for objective in ("mgll", "clip", "siglip", "supcon"):
        run = replace(settings, manifest=str(tmp_path / "manifest.jsonl"), out=str(tmp_path / objective))
        tower = load_file(pretrain(replace(run, objective=objective, batch_size=8, max_bad_share=1.0)))
        assert all(tensor.isfinite().all() for tensor in tower.values())
        losses = [json.loads(line)["loss"] for line in (Path(run.out) / "metrics.jsonl").read_text().splitlines()]
        assert losses == [0.0] * 4


def test_the_error_passes_between_processes():
    error = pickle.loads(pickle.dumps(BadImagesError("2 of 3 images", ["a.png", "b.png"])))
    assert str(error) == "2 of 3 images"
    assert error.paths == ["a.png", "b.png"]
