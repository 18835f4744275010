"""What cannot be grafted or loaded: the error names it, the source is untouched, nothing half-made passes for whole."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mgll.formats import FormatError
from mllm_adapters.contract.graft_record import GRAFT, read_graft
from mllm_adapters.contract.terms import GraftSettings, HostError
from mllm_adapters.graft import transplant
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.graft.weights import TOWER_SHARD
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load

HOST = get_host("llava")


@pytest.fixture
def host_copy(host_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(host_directory, tmp_path / "copy"))


def refuse(match: str, source: Path, encoder: Path, out: Path, settings: GraftSettings | None = None) -> None:
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    with pytest.raises((FormatError, HostError), match=match):
        graft_tower(HOST, source, encoder, out, settings)
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    assert not out.exists()


def test_missing_shard(host_copy: Path, make_tower: Callable[..., Path], tmp_path: Path) -> None:
    shard = sorted(host_copy.glob("*.safetensors"))[1]
    shard.unlink()
    refuse(shard.name, host_copy, make_tower(), tmp_path / "graft")
    with pytest.raises(FormatError, match=shard.name):
        load(host_copy)


def test_shard_cut_short(host_copy: Path, make_tower: Callable[..., Path], tmp_path: Path) -> None:
    shard = sorted(host_copy.glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-10])
    refuse("cut short", host_copy, make_tower(), tmp_path / "graft")


def test_shard_without_a_promised_tensor(host_copy: Path, make_tower: Callable[..., Path], tmp_path: Path) -> None:
    shard = sorted(host_copy.glob("*.safetensors"))[0]
    tensors = load_file(shard)
    name = sorted(tensors)[0]
    del tensors[name]
    save_file(tensors, shard, {"format": "pt"})
    refuse(name, host_copy, make_tower(), tmp_path / "graft")


def test_a_tensor_in_two_shards(host_copy: Path, make_tower: Callable[..., Path], tmp_path: Path) -> None:
    first, second = sorted(host_copy.glob("*.safetensors"))[:2]
    name, tensor = next(iter(load_file(first).items()))
    save_file(load_file(second) | {name: tensor}, second, {"format": "pt"})
    refuse(f"{name} is also in", host_copy, make_tower(), tmp_path / "graft")


def test_a_damaged_pickle(host_copy: Path, make_tower: Callable[..., Path], tmp_path: Path) -> None:
    for path in [*host_copy.glob("*.safetensors"), host_copy / "model.safetensors.index.json"]:
        path.unlink()
    (host_copy / "pytorch_model.bin").write_bytes(b"PK")
    refuse("damaged, or holds more than tensors; nothing in it was run", host_copy, make_tower(), tmp_path / "graft")


def test_another_family(host_copy: Path, make_tower: Callable[..., Path], tmp_path: Path) -> None:
    config = json.loads((host_copy / "config.json").read_text())
    (host_copy / "config.json").write_text(json.dumps(config | {"model_type": "fuyu"}))
    refuse("'fuyu' checkpoint", host_copy, make_tower(), tmp_path / "graft")
    with pytest.raises(HostError, match="fuyu"):
        load(host_copy)


def test_pickled_encoder(host_directory: Path, tmp_path: Path) -> None:
    torch.save({"model": torch.zeros(3)}, tmp_path / "mgll.ckpt")
    refuse("pickle", host_directory, tmp_path / "mgll.ckpt", tmp_path / "graft")


def test_encoder_cut_short(host_directory: Path, make_tower: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "mgll.ckpt").write_bytes(make_tower().read_bytes()[:-100])
    refuse("not a whole safetensors", host_directory, tmp_path / "mgll.ckpt", tmp_path / "graft")


def test_feature_layer_beyond_the_donor(host_directory: Path, make_tower: Callable[..., Path], tmp_path: Path) -> None:
    refuse("feature layer 9", host_directory, make_tower(), tmp_path / "graft", GraftSettings(feature_layer=9))


def test_out_must_not_hold_anything_else(host_copy: Path, make_tower: Callable[..., Path], tmp_path: Path) -> None:
    encoder, out = make_tower(), tmp_path / "graft"
    with pytest.raises(HostError, match="the checkpoint itself"):
        graft_tower(HOST, host_copy, encoder, host_copy)
    with pytest.raises(HostError, match="the checkpoint itself"):
        graft_tower(HOST, host_copy, encoder, host_copy.parent)
    graft_tower(HOST, host_copy, encoder, out)
    graft_tower(HOST, host_copy, make_tower(seed=2), out)  # an earlier graft is replaced
    (out / "notes.txt").write_text("mine")
    with pytest.raises(HostError, match=r"notes\.txt"):
        graft_tower(HOST, host_copy, encoder, out)
    assert (out / "notes.txt").read_text() == "mine"


def test_an_exception_midway_leaves_nothing(
    host_copy: Path, make_tower: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    encoder, out = make_tower(), tmp_path / "graft"
    graft_tower(HOST, host_copy, encoder, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(transplant, "write_files", full_disk)
    with pytest.raises(OSError, match="No space"):
        graft_tower(HOST, host_copy, make_tower(seed=2), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "graft"]


KILLED = """
import os, signal, sys
from mllm_adapters.graft import transplant
from mllm_adapters.hosts.registry import get_host
transplant.write_files = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
transplant.graft_tower(get_host("llava"), *sys.argv[1:])
"""


def test_a_kill_midway_leaves_nothing_that_loads(
    host_copy: Path, make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in host_copy.iterdir()}
    encoder, out = make_tower(), tmp_path / "out" / "graft"
    command = [sys.executable, "-c", KILLED, str(host_copy), str(encoder), str(out)]
    assert subprocess.run(command, timeout=120).returncode == -signal.SIGKILL
    assert not out.exists()
    (half,) = (tmp_path / "out").iterdir()
    assert (half / TOWER_SHARD).is_file()
    for command in (load, validate):
        with pytest.raises(FormatError, match="not a"):
            command(half)
    assert {path.name: path.read_bytes() for path in host_copy.iterdir()} == before
    graft_tower(HOST, host_copy, encoder, out)
    validate(out)


def test_load_names_what_is_missing_surplus_or_misshapen(
    host_directory: Path, make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "graft"
    graft_tower(HOST, host_directory, make_tower(), out, copy=True)
    path, index = out / TOWER_SHARD, out / "model.safetensors.index.json"
    whole, listed = load_file(path), json.loads(index.read_text())
    name = "vision_tower.post_layernorm.weight"

    def write(tensors: dict[str, torch.Tensor]) -> None:
        save_file(tensors, path, {"format": "pt"})
        kept = {n: s for n, s in listed["weight_map"].items() if s != TOWER_SHARD} | dict.fromkeys(tensors, TOWER_SHARD)
        index.write_text(json.dumps(listed | {"weight_map": kept}))

    write({n: t for n, t in whole.items() if n != name})
    with pytest.raises(FormatError, match=r"missing_keys: model\.vision_tower\.post_layernorm\.weight"):
        load(out)
    write(whole | {"vision_tower.surplus": torch.zeros(2)})
    with pytest.raises(FormatError, match=r"unexpected_keys: model\.vision_tower\.surplus"):
        load(out)
    write(whole | {name: torch.zeros(5)})
    with pytest.raises(FormatError, match=r"mismatched_keys: .*post_layernorm\.weight"):
        load(out)
    write(whole | {name: whole[name] + 1})
    with pytest.raises(FormatError, match=f"{name} has other bytes"):
        validate(out)
    write(whole)
    validate(out)


def test_validate_names_the_wrong_field(
    host_directory: Path, make_tower: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mllm_adapters.graft.__main__ import _main

    out = tmp_path / "graft"
    graft_tower(HOST, host_directory, make_tower(), out)
    assert _main(["validate", str(out)]) == 0
    record = json.loads((out / GRAFT).read_text())
    (out / GRAFT).write_text(json.dumps(record | {"features": "many"}))
    assert _main(["validate", str(out)]) == 1
    assert "field features" in "".join(capsys.readouterr())
    (out / GRAFT).write_text(json.dumps(record | {"features": 8}))
    with pytest.raises(HostError, match="8 features an image, the processor puts in 9"):
        validate(out)
    (out / GRAFT).write_text(json.dumps(record | {"schema": "mgll.graft/2"}))
    with pytest.raises(FormatError, match="field schema"):
        read_graft(out)


NO_ROOM = """
import resource, sys
from mllm_adapters.swap import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # what the kernel then says is what it says of a full disk
sys.exit(main(sys.argv[1:]))
"""


def test_no_room_on_the_disk(host_copy: Path, make_tower: Callable[..., Path], tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in host_copy.iterdir()}
    out = tmp_path / "out" / "graft"
    arguments = ["--model", "llava", "--encoder", str(make_tower()), "--checkpoint", str(host_copy), "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", NO_ROOM, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "nothing was left" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []
    assert {path.name: path.read_bytes() for path in host_copy.iterdir()} == before
