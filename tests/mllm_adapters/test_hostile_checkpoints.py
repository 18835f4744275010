"""Checkpoints that lie about themselves: swap, convert, validate and load refuse them in one line, before a byte is written."""

import json
import os
import re
import shutil
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mgll.formats import FormatError
from mgll.weights.stored import LONGEST_HEADER, read_stored
from mllm_adapters import convert, swap
from mllm_adapters.contract.graft_record import GRAFT
from mllm_adapters.contract.terms import HostError
from mllm_adapters.graft.__main__ import _main as check_graft
from mllm_adapters.loading.load import load

Header = dict[str, Any]
INDEX = "model.safetensors.index.json"


@pytest.fixture
def host(host_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(host_directory, tmp_path / "host"))


@pytest.fixture
def refused(make_tower: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Try a checkpoint on every command, all of which must refuse it in one line that names it, and write nothing."""

    def try_all(host: Path, match: str, loads: bool = False, arguments: tuple[str, ...] = ()) -> str:
        out = tmp_path / "out"
        command = ["--model", "llava", "--checkpoint", str(host), "--out", str(out), *arguments]
        said = ""
        for main, further in ((swap.main, ["--encoder", str(make_tower())]), (convert.main, [])):
            capsys.readouterr()
            assert main([*command, *further]) == 1
            said = capsys.readouterr().err
            assert said.count("\n") == 1, said
            assert match in said
            assert not out.exists()
        if not loads:
            with pytest.raises((FormatError, HostError), match=re.escape(match)) as error:
                load(host)
            assert "\n" not in str(error.value)
        return said

    return try_all


def shard_with(host: Path, ending: str) -> tuple[Path, str]:
    for shard in sorted(host.glob("*.safetensors")):
        for name in read_stored(shard)[0]:
            if name.endswith(ending):
                return shard, name
    raise AssertionError(ending)


def rewrite(shard: Path, change: Callable[[Header], object], tail: bytes = b"", text: bytes | None = None) -> None:
    raw = shard.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    change(header)
    said = json.dumps(header).encode() if text is None else text
    shard.write_bytes(struct.pack("<Q", len(said)) + said + raw[8 + length :] + tail)


KEPT = "layers.1.self_attn.k_proj.weight"  # of the language model, so no graft replaces it


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"dtype": "F16"}, "invalid shape, data type, or offset"),
        ({"dtype": "F99"}, "unknown variant `F99`"),
        ({"dtype": "I32"}, "whole numbers in the place of weights"),
        ({"dtype": "U32"}, "whole numbers in the place of weights"),
        ({"shape": [32, 31]}, "invalid shape, data type, or offset"),
        ({"shape": [32, 64]}, "invalid shape, data type, or offset"),
        ({"shape": [16, 64]}, "mismatched_keys"),
        ({"shape": [1024]}, "mismatched_keys"),
        ({"shape": [-32, -32]}, "expected usize"),
        ({"shape": [2**40, 2**40]}, "overflow"),
        ({"shape": ["32", "32"]}, "expected usize"),
        ({"shape": None}, "invalid type"),
        ({"data_offsets": [-4, 4092]}, "expected usize"),
        ({"data_offsets": [2**62, 2**62 + 4096]}, "invalid offset"),
        ({"data_offsets": [4096, 0]}, "invalid"),
        ({"data_offsets": [0]}, "invalid"),
        ({"dtype": "BF16", "shape": [32, 64]}, "mismatched_keys"),
    ],
)
def test_a_kept_tensor_that_is_not_what_the_header_says(
    change: Header, match: str, host: Path, refused: Callable[..., str]
) -> None:
    shard, name = shard_with(host, KEPT)
    rewrite(shard, lambda header: header[name].update(change))
    refused(host, match)


@pytest.mark.parametrize(
    ("dtype", "match"),
    [
        (torch.float8_e4m3fn, "is F8_E4M3; weights are read in F64, F32, F16, BF16"),
        (torch.complex64, "is C64; weights are read in"),
        (torch.bool, "is BOOL, whole numbers in the place of weights"),
    ],
)
def test_a_kept_tensor_in_a_dtype_of_no_weights(
    dtype: torch.dtype, match: str, host: Path, refused: Callable[..., str]
) -> None:
    shard, name = shard_with(host, KEPT)
    tensors = load_file(shard)
    save_file(tensors | {name: tensors[name].to(dtype)}, shard, {"format": "pt"})
    refused(host, f"{name} {match}")


def test_a_transposed_tensor(host: Path, refused: Callable[..., str]) -> None:
    shard, name = shard_with(host, "layers.0.mlp.down_proj.weight")
    rewrite(shard, lambda header: header[name].update(shape=header[name]["shape"][::-1]))
    assert name.removeprefix("language_model.model.") in refused(host, "mismatched_keys")


@pytest.mark.parametrize(
    ("ranges", "match"),
    [
        ("overlap", "invalid offset"),
        ("gap", "invalid offset"),
        ("missing", "not fully covered|cut short, or longer"),
    ],
)
def test_byte_ranges_that_do_not_tile_the_file(
    ranges: str, match: str, host: Path, refused: Callable[..., str]
) -> None:
    shard, _ = shard_with(host, KEPT)
    names = list(read_stored(shard)[0])
    assert len(names) > 1

    def change(header: Header) -> None:
        if ranges == "overlap":
            header[names[-1]]["data_offsets"] = header[names[0]]["data_offsets"]
            header[names[-1]]["shape"] = header[names[0]]["shape"]
        elif ranges == "gap":
            del header[names[0]]
        else:
            del header[names[-1]]

    rewrite(shard, change)
    refused(host, match.split("|")[-1])


def test_bytes_behind_the_last_tensor(host: Path, refused: Callable[..., str]) -> None:
    rewrite(shard_with(host, KEPT)[0], lambda _: None, tail=b"#!/bin/sh")
    refused(host, "cut short, or longer")


def test_a_name_that_stands_twice(host: Path, refused: Callable[..., str]) -> None:
    shard, name = shard_with(host, KEPT)
    raw = shard.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    entry = json.dumps({name: header[name] | {"shape": [16, 64]}}).strip("{}")
    text = b"{" + entry.encode() + b"}," + raw[9 : 8 + length]
    shard.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
    refused(host, f"has '{name}' twice")


def test_a_header_of_a_hundred_megabytes_is_not_read(host: Path, refused: Callable[..., str]) -> None:
    shard, _ = shard_with(host, KEPT)
    with shard.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_000))
        file.truncate(100_000_100)  # a sparse file
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(FormatError, match=f"more than {LONGEST_HEADER}"):
        read_stored(shard)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    refused(host, "header has 100000000 bytes")


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff\xfe", b'{"a": NaN}', b'{"__metadata__":' + b"[" * 100_000])
def test_a_header_that_is_none(text: bytes, host: Path, refused: Callable[..., str]) -> None:
    rewrite(shard_with(host, KEPT)[0], lambda _: None, text=text)
    refused(host, "not a whole safetensors file")


def test_both_halves_in_one_file(host: Path, refused: Callable[..., str]) -> None:
    shard, name = shard_with(host, KEPT)
    save_file({n: t.to(torch.float16) for n, t in load_file(shard).items()}, shard, {"format": "pt"})
    rewrite(shard, lambda header: header[name].update(dtype="BF16"))
    refused(host, f"{name} is BF16")


def test_a_checkpoint_all_in_half_precision_is_taken(
    host: Path, make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        for shard in host.glob("*.safetensors"):
            save_file({n: t.to(dtype) for n, t in load_file(shard).items()}, shard, {"format": "pt"})
        command = ["--model", "llava", "--checkpoint", str(host), "--encoder", str(make_tower())]
        assert swap.main([*command, "--out", str(tmp_path / "out")]) == 0


CONFIG = [
    ({"vision_config": {"patch_size": 0}}, "patch_size|ZeroDivision|modulo"),
    ({"vision_config": {"patch_size": -8}}, "config.json"),
    ({"vision_config": {"patch_size": "8"}}, "patch_size"),
    ({"vision_config": {"patch_size": None}}, "config.json"),
    ({"vision_config": {"image_size": [24]}}, "config.json"),
    ({"vision_config": {"num_hidden_layers": 10**9}}, "1000000000 layers, the files hold"),
    ({"vision_config": {"num_hidden_layers": -1}}, "unexpected_keys"),
    ({"vision_config": {"hidden_act": "evil"}}, "evil"),
    ({"vision_config": None}, "config.json"),
    ({"vision_config": [1]}, "config.json"),
    ({"vision_config": "clip"}, "config.json"),
    ({"text_config": None}, "config.json|keys"),
    ({"text_config": {"num_attention_heads": 7}}, "7"),
    ({"text_config": {"hidden_size": "32"}}, "hidden_size"),
    ({"text_config": {"vocab_size": -1}}, "config.json"),
    ({"text_config": {"num_hidden_layers": 1}}, "unexpected_keys"),
    ({"text_config": {"rms_norm_eps": float("nan")}}, "NaN"),
    ({"vision_feature_layer": 99}, "feature layer 99|layer"),
    ({"model_type": ["llava"]}, "['llava']"),
]


@pytest.mark.parametrize(("change", "match"), CONFIG)
def test_a_configuration_of_which_no_model_can_be_built(
    change: Header,
    match: str,
    host: Path,
    make_tower: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, out = host / "config.json", tmp_path / "out"
    config = json.loads(path.read_text())
    for key, value in change.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(config))
    command = ["--model", "llava", "--checkpoint", str(host), "--out", str(out), "--encoder", str(make_tower())]
    assert swap.main(command) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert any(part in said for part in match.split("|")), said
    assert not out.exists()
    assert convert.main([*command[:-2]]) == 1
    if "vision_feature_layer" not in change:
        with pytest.raises((FormatError, HostError)):
            load(host)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("processor_config.json", {"processor_class": "EvilProcessor"}),
        ("processor_config.json", {"processor_class": 3}),
        ("processor_config.json", {"image_processor": None}),
        ("processor_config.json", {"image_processor": {"image_processor_type": "Evil"}}),
        ("processor_config.json", {"patch_size": 0}),
        ("processor_config.json", {"patch_size": "8"}),
        ("processor_config.json", {"image_token": ["<image>"]}),
        ("tokenizer.json", {"model": {"type": "Evil"}}),
        ("tokenizer.json", {"added_tokens": 3}),
        ("tokenizer_config.json", {"tokenizer_class": "Evil"}),
    ],
)
def test_a_processor_that_cannot_prepare_an_image(
    name: str, change: Header, host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((host / name).read_text())
    (host / name).write_text(json.dumps(content | change))
    out = tmp_path / "out"
    status = convert.main(["--model", "llava", "--checkpoint", str(host), "--out", str(out)])
    said = capsys.readouterr().err
    if status == 0:  # transformers falls back on what it knows of the family
        load(out)
        return
    assert said.count("\n") == 1, said
    assert not out.exists()
    with suppress(FormatError, HostError):  # some of them fail only when they are used; none fails in another way
        load(host)


DEEP = '{"a": ' + "[" * 200_000 + "]" * 200_000 + "}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, DEEP) for name in ("config.json", "processor_config.json", INDEX)),
        *((name, "[]") for name in ("config.json", "processor_config.json", INDEX)),
        *((name, "\xff\x00") for name in ("config.json", INDEX)),
        (INDEX, '{"weight_map": null}'),
        (INDEX, '{"weight_map": {"a": 3}}'),
        (INDEX, '{"weight_map": {"a": ["b"]}}'),
    ],
)
def test_json_that_is_nested_too_deeply_or_of_another_kind(
    name: str, text: str, host: Path, refused: Callable[..., str]
) -> None:
    (host / name).write_text(text, encoding="latin-1")
    refused(host, name, loads=name == "processor_config.json")


@pytest.mark.parametrize("text", [DEEP, "[]", "\xff", "{}", '{"schema": "mgll.graft/1", "host": 3}', '{"schema": NaN}'])
def test_a_record_that_is_none(
    text: str, host: Path, capsys: pytest.CaptureFixture[str], make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "graft"
    assert (
        swap.main(["--model", "llava", "--checkpoint", str(host), "--encoder", str(make_tower()), "--out", str(out)])
        == 0
    )
    capsys.readouterr()
    (out / GRAFT).write_text(text, encoding="latin-1")
    assert check_graft(["validate", str(out)]) == 1
    said = "".join(capsys.readouterr())
    assert said.count("\n") == 1
    assert GRAFT in said
    with pytest.raises(FormatError, match="graft"):
        load(out)


def poison(host: Path, ending: str, value: float = float("nan")) -> None:
    shard, name = shard_with(host, ending)
    tensors = load_file(shard)
    tensors[name].view(-1)[-1] = value
    save_file(tensors, shard, {"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_kept_tensor_that_holds_no_number(value: float, host: Path, refused: Callable[..., str]) -> None:
    poison(host, KEPT, value)
    refused(host, "NaN or infinity in language_model")


def test_one_nan_in_the_middle_of_a_large_tensor_is_found_by_verify(
    host: Path, make_tower: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((host / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 4096  # 512 KiB a matrix: larger than what is read whole
    (host / "config.json").write_text(json.dumps(config))
    for shard in host.glob("*.safetensors"):
        tensors = load_file(shard)
        for name, tensor in tensors.items():
            if ".mlp." in name and "language" in name:
                shape = [4096 if size == 48 else size for size in tensor.shape]
                tensors[name] = torch.ones(shape)
        save_file(tensors, shard, {"format": "pt"})
    shard, name = shard_with(host, "layers.0.mlp.up_proj.weight")
    tensors = load_file(shard)
    tensors[name].view(-1)[5000] = float("nan")
    save_file(tensors, shard, {"format": "pt"})
    out = tmp_path / "graft"
    command = ["--model", "llava", "--checkpoint", str(host), "--encoder", str(make_tower()), "--out", str(out)]
    assert swap.main([*command, "--verify"]) == 1
    assert f"NaN or infinity in {name}" in capsys.readouterr().err
    assert not out.exists()
    assert swap.main(command) == 0
    assert check_graft(["validate", str(out)]) == 0
    assert check_graft(["validate", str(out), "--verify"]) == 1
    assert f"NaN or infinity in {name}" in "".join(capsys.readouterr())
    load(out)
    with pytest.raises(FormatError, match="NaN or infinity"):
        load(out, verify=True)
    tensors[name][...] = float("nan")  # as a training that diverged leaves it: the samples find it
    save_file(tensors, shard, {"format": "pt"})
    assert swap.main(command) == 1


def test_a_donor_that_overflows_in_the_precision_of_the_host(
    host: Path, make_tower: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for shard in host.glob("*.safetensors"):
        save_file({n: t.half() for n, t in load_file(shard).items()}, shard, {"format": "pt"})
    tower = Path(shutil.copy(make_tower(), tmp_path / "mgll.ckpt"))
    from safetensors import safe_open

    with safe_open(tower, "pt") as file:
        said = file.metadata()
    tensors = load_file(tower)
    tensors["post_layernorm.weight"][0] = 1e6
    save_file(tensors, tower, said)
    out = tmp_path / "out"
    assert swap.main(["--model", "llava", "--checkpoint", str(host), "--encoder", str(tower), "--out", str(out)]) == 1
    assert "NaN or infinity in" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("name", ["../host/{}", "../../{}", "{absolute}", "sub/../../x.safetensors", "a\0b"])
def test_an_index_that_names_files_elsewhere(name: str, host: Path, refused: Callable[..., str]) -> None:
    index = json.loads((host / INDEX).read_text())
    shard = sorted(set(index["weight_map"].values()))[0]
    there = name.format(shard, absolute=host / shard)
    index["weight_map"] = {n: there if s == shard else s for n, s in index["weight_map"].items()}
    (host / INDEX).write_text(json.dumps(index))
    refused(host, "names files outside of its folder, which are never read")


@pytest.mark.parametrize("file", ["shard", "config.json", "tokenizer.json", "notes.txt"])
def test_a_link_to_a_file_elsewhere_needs_a_word(
    file: str, host: Path, refused: Callable[..., str], make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    path = shard_with(host, KEPT)[0] if file == "shard" else host / file
    if file == "notes.txt":
        path.write_text("mine")
    elsewhere = tmp_path / "elsewhere" / path.name
    elsewhere.parent.mkdir()
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    refused(host, f"links that lead out of the folder: {path.name} -> {elsewhere}")
    with pytest.warns(UserWarning, match="1 links that lead out of it are followed"):
        load(host, follow_links=True)
    command = ["--model", "llava", "--checkpoint", str(host), "--follow-links"]
    assert swap.main([*command, "--encoder", str(make_tower()), "--out", str(tmp_path / "graft")]) == 0
    assert convert.main([*command, "--out", str(tmp_path / "converted")]) == 0
    assert not any(path.is_symlink() for path in (tmp_path / "converted").rglob("*"))
    load(tmp_path / "converted")


def test_links_within_the_folder_and_within_the_cache_of_the_hub_are_right(host: Path, tmp_path: Path) -> None:
    shard = shard_with(host, KEPT)[0]
    shard.rename(host / "really.st")
    shard.symlink_to("really.st")
    load(host)
    repository = tmp_path / "hub" / "models--owner--name"
    snapshot, blobs = repository / "snapshots" / "0123", repository / "blobs"
    shared = tmp_path / "hub" / "blobs" / "ab"
    for folder in (snapshot, blobs, shared):
        folder.mkdir(parents=True)
    for i, path in enumerate(sorted(host.iterdir())):
        if path.name == "really.st":
            continue
        shutil.copy(path, (shared if i % 2 else blobs) / f"{i}")
        if i % 2:  # the newest layout of the cache: one store for all repositories
            (blobs / f"{i}").symlink_to(Path("../../blobs/ab") / f"{i}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{i}")
    load(snapshot)
    assert convert.main(["--model", "llava", "--checkpoint", str(snapshot), "--out", str(tmp_path / "out")]) == 0
    (tmp_path / "by-another-name").symlink_to(snapshot)
    load(tmp_path / "by-another-name")


@pytest.mark.parametrize("file", ["shard", "config.json", "processor_config.json", INDEX, "notes"])
def test_a_pipe_is_never_opened(file: str, host: Path, refused: Callable[..., str]) -> None:
    """Opening one would wait for ever."""
    path = shard_with(host, KEPT)[0] if file == "shard" else host / file
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    refused(host, f"neither a file nor a folder: {path.name}")
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(host, f"neither a file nor a folder: {path.name}", arguments=("--follow-links",))


def test_a_pipe_in_the_place_of_a_tower(host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "mgll.ckpt")
    command = ["--model", "llava", "--checkpoint", str(host), "--encoder", str(tmp_path / "mgll.ckpt")]
    assert swap.main(command) == 1
    assert "no such tower file" in capsys.readouterr().err


def test_a_hidden_file_is_nobodys_business(host: Path) -> None:
    os.mkfifo(host / ".pipe")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(host)


@pytest.mark.parametrize("part", ["", "text_config"])
def test_a_note_of_quantised_weights(part: str, host: Path, refused: Callable[..., str]) -> None:
    # merged QLoRA keeps it beside full weights, and transformers would quantise these without a word
    config = json.loads((host / "config.json").read_text())
    (config[part] if part else config)["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (host / "config.json").write_text(json.dumps(config))
    refused(host, "config.json says that its weights are quantised (bitsandbytes)")


def test_a_folder_without_a_tokenizer(host: Path, refused: Callable[..., str]) -> None:
    for path in host.glob("tokenizer*"):
        path.unlink()
    refused(host, "no tokenizer in it")


@pytest.mark.parametrize("old", [False, True])
def test_a_folder_that_does_not_say_how_images_are_prepared(old: bool, host: Path, refused: Callable[..., str]) -> None:
    settings = json.loads((host / "processor_config.json").read_text())
    (host / "processor_config.json").unlink()
    if old:  # before transformers 5 the two were files of their own
        del settings["image_processor"]
        (host / "processor_config.json").write_text(json.dumps(settings))
    refused(host, "no preprocessor_config.json in it")
