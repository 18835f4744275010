"""The swap command as a user types it."""

import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from mllm_adapters import ask, convert, swap
from mllm_adapters.contract.terms import GraftSettings, HostError
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.hosts.registry import HOSTS, get_host, host_of
from mllm_adapters.loading.load import load


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "mllm_adapters.swap", "--help"],
        [sys.executable, str(Path(__file__).parents[2] / "recipes" / "finetune_mllm.py"), "--help"],
    ],
)
def test_help_needs_no_torch(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_default_out_report_and_next_command(
    host_directory: Path,
    make_tower: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", "llava", "--encoder", str(make_tower(hidden_size=24)), "--checkpoint", str(host_directory)]
    assert swap.main(arguments) == 0
    said = capsys.readouterr().out
    assert "runs/llava-mgll" in said
    assert "new tensors: multi_modal_projector.linear_1.bias, multi_modal_projector.linear_1.weight" in said
    assert "train it before" in said
    assert "next: python recipes/finetune_mllm.py --model runs/llava-mgll" in said
    assert validate(Path("runs/llava-mgll")).source == str(host_directory)


def test_a_folder_without_a_tokenizer_is_named(
    host_directory: Path, make_tower: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = shutil.copytree(host_directory, tmp_path / "host")
    for file in without.glob("tokenizer*"):
        file.unlink()
    tower = str(make_tower(hidden_size=24))
    assert swap.main(
        ["--model", "llava", "--checkpoint", str(without), "--encoder", tower, "--out", str(tmp_path / "graft")]
    )
    assert "no tokenizer in it (tokenizer.json" in capsys.readouterr().err
    assert not (tmp_path / "graft").exists()


def test_without_network_or_cache_it_says_what_to_type(
    make_tower: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import huggingface_hub.constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert swap.main(["--model", "llava", "--encoder", str(make_tower())]) == 1
    said = capsys.readouterr().err
    assert "llava-hf/llava-1.5-7b-hf is neither in the cache" in said
    assert "--checkpoint DIR" in said
    assert "--checkpoint demo" in said
    assert "hf download llava-hf/llava-1.5-7b-hf" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [(["--checkpoint", "./nowhere"], "no such folder"), (["--encoder", "nowhere.ckpt"], "no such tower file")],
)
def test_wrong_arguments(
    arguments: list[str], match: str, make_tower: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert swap.main(["--model", "llava", "--encoder", str(make_tower()), *arguments]) == 1
    assert match in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "model_type", "instead"),
    [
        ("llama4", "llama4", "take --model llama3.2-vision or qwen3.5"),
        ("Qwen3-VL-MoE", "qwen3_vl_moe", "Qwen/Qwen3-VL-8B-Instruct"),
        ("qwen3.5-moe", "qwen3_5_moe", "Qwen/Qwen3.5-9B"),
    ],
)
def test_families_that_are_not_built_are_refused_with_what_to_take(
    asked: str, model_type: str, instead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, further in ((swap.main, ["--encoder", "mgll.ckpt"]), (convert.main, [])):
        with pytest.raises(SystemExit) as end:
            command(["--model", asked, *further])
        assert end.value.code == 2
        assert instead in capsys.readouterr().err
    with pytest.raises(HostError, match=instead.replace(".", r"\.")):
        host_of({"model_type": model_type})


def test_list_names_every_host_with_its_checkpoint_under_its_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert swap.main(["--list"]) == 0
    shown = capsys.readouterr().out.splitlines()[1:]
    lines = {line.split()[0]: line for line in shown if line.startswith(" ")}
    assert sorted(lines) == sorted(HOSTS)
    families = [line for line in shown if not line.startswith(" ")]
    assert len(families) == len(set(families))
    assert set(families) == {get_host(name).family for name in HOSTS}
    after = shown[shown.index("Qwen") + 1 :]
    assert [line.split()[0] for line in after if line.startswith(" ")][:2] == ["qwen-vl", "qwen2-vl"]
    assert "llava-hf/llava-1.5-7b-hf" in lines["llava"]
    assert "plain transformers" in lines["llava"]
    assert "mllm_adapters.load" in lines["internvl"]


@pytest.mark.parametrize("copy", [[], ["--copy"]])
def test_a_dry_run_says_to_the_byte_what_the_graft_writes(
    copy: list[str],
    mixed_shards: Callable[[str], Path],
    make_tower: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, encoder, out = mixed_shards("legacy"), make_tower(hidden_size=24), tmp_path / "graft"
    command = ["--model", "llava", "--encoder", str(encoder), "--checkpoint", str(source), "--out", str(out), *copy]
    assert swap.main([*command, "--dry-run"]) == 0
    assert not out.exists()
    said = capsys.readouterr().out
    assert "new: multi_modal_projector.linear_1.weight [32, 24]" in said
    assert swap.main(command) == 0
    shards = [path for path in out.glob("*.safetensors") if copy or path.stat().st_nlink == 1]
    headers = [8 + struct.unpack("<Q", path.read_bytes()[:8])[0] for path in shards]
    written = sum(path.stat().st_size for path in shards) - sum(headers)
    assert f"to write: {written / 1000:.1f} kB" in said


def test_a_part_that_the_host_does_not_have(
    host_directory: Path, make_tower: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--model", "llava", "--encoder", str(make_tower()), "--checkpoint", str(host_directory)]
    assert swap.main([*command, "--part", "llama=somewhere"]) == 1
    assert "parts of LLaVA-1.5: clip (such as openai/clip-vit-large-patch14-336), base" in capsys.readouterr().err


def test_a_converted_host_is_the_host(host_directory: Path, host_model, tmp_path: Path) -> None:
    out = tmp_path / "converted"
    assert convert.main(["--model", "llava", "--checkpoint", str(host_directory), "--out", str(out)]) == 0
    found = load(out)
    expected = host_model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.model.state_dict().items())
    assert validate(out).donor is None


def test_ask_answers_in_text(
    host_directory: Path, photographs: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = [str(host_directory), "What is it?", "--image", str(photographs[0]), "--max-new-tokens", "4"]
    assert ask.main(command) == 0
    said = capsys.readouterr().out.strip()
    loaded = load(host_directory)
    assert said == ask.ask(loaded, photographs[0], "What is it?", max_new_tokens=4)
    assert "What is it?" not in said
    assert ask.main([*command[:2], "--image", str(tmp_path / "none.png")]) == 1
    assert "none.png: no such file" in capsys.readouterr().err


def test_a_graft_of_equal_precision_reads_no_tensor(
    mixed_shards: Callable[[str], Path],
    make_tower: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which is why its memory does not grow with the tower, nor with the host."""

    def refuse(*_: object) -> None:
        raise AssertionError("a tensor was read into memory")

    source, encoder = mixed_shards("legacy"), make_tower()
    monkeypatch.setattr("mllm_adapters.graft.weights.read_tensor", refuse)
    monkeypatch.setattr("safetensors.torch.load_file", refuse)
    record = graft_tower(get_host("llava"), source, encoder, tmp_path / "graft")
    assert record.changed("replaced")


@pytest.mark.parametrize("knows", ["checkpoint", "tokenizer"])
def test_an_answer_ends_where_checkpoint_or_tokenizer_say(
    knows: str, host_directory: Path, photographs: list[Path]
) -> None:
    loaded = load(host_directory)
    tokenizer, config = loaded.processor.tokenizer, loaded.model.generation_config
    steps: list[torch.Tensor] = []
    loaded.model.register_forward_hook(lambda _model, _inputs, output: steps.append(output.logits[0, -1]))
    config.eos_token_id = None
    ask.ask(loaded, photographs[0], "What is it?", max_new_tokens=4)
    assert len(steps) == 4
    first = int(steps[0].argmax())
    if knows == "checkpoint":
        config.eos_token_id = [first, 3]
    else:
        config.eos_token_id = 3  # wrong, as in InstructBLIP's published configuration
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(first)
    steps.clear()
    ask.ask(loaded, photographs[0], "What is it?", max_new_tokens=4)
    assert len(steps) == 1


@pytest.mark.parametrize(
    ("name", "tokens", "why"),
    [
        ("llava", "pooled", "its tokens are pooled while it runs"),
        ("llava", "resize_features", "its tokens are resized while it runs"),
        ("janus-pro", "native", "JanusForConditionalGeneration cannot build another tower than its own"),
        ("med-flamingo", "native", "transformers has no class for Med-Flamingo"),
    ],
)
def test_the_report_says_why_a_graft_needs_code_of_ours(
    name: str, tokens: str, why: str, make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    from tiny.any_host import save_tiny

    host, out = get_host(name), tmp_path / "graft"
    record = graft_tower(
        host, save_tiny(name, tmp_path / "host"), make_tower(size=48), out, GraftSettings(tokens=tokens)
    )
    said = swap.report(host, record, out)
    assert f"{why}: load it with mllm_adapters.load, not with transformers" in said


def test_the_report_of_a_graft_that_transformers_loads_warns_of_nothing(
    host_directory: Path, make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    record = graft_tower(get_host("llava"), host_directory, make_tower(), tmp_path / "graft")
    assert "mllm_adapters.load" not in swap.report(get_host("llava"), record, tmp_path / "graft")


def test_a_warm_graft_from_the_command_line(
    host_directory: Path, make_tower, photographs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "images", tmp_path / "graft"
    folder.mkdir()
    for i in range(12):
        (folder / f"{i}.png").write_bytes(photographs[i % len(photographs)].read_bytes())
    command = ["--model", "llava", "--encoder", str(make_tower(hidden_size=24)), "--checkpoint", str(host_directory)]
    command += ["--out", str(out), "--warm", str(folder), "--warm-limit", "10"]
    assert swap.main([*command, "--dry-run"]) == 0
    assert "linear_1.weight [32, 24]" in capsys.readouterr().out
    assert swap.main(command) == 0
    said = capsys.readouterr().out
    assert "linear_1.weight (fitted)" in said
    assert "fitted on 10 images" in said
    assert validate(out).warm
    (folder / "0.png").write_bytes(b"nothing")
    assert swap.main([*command[:-1], "100"]) == 1
    assert "0.png" in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    assert swap.main([*command, "--warm", str(tmp_path / "none")]) == 1
    assert "no images in it" in capsys.readouterr().err


@pytest.mark.parametrize("name", HOSTS)
def test_a_dry_run_counts_the_layers_that_lora_will_adapt(
    name: str, hosts: Callable[[str], Path], make_tower: Callable[..., Path]
) -> None:
    from mllm_adapters.graft.dry_run import dry_run
    from mllm_adapters.loading.lora import add_lora
    from mllm_adapters.settings import FinetuneSettings

    host, directory = get_host(name), hosts(name)
    dry = dry_run(host, directory, make_tower(size=32))
    model = add_lora(load(directory).model, host, FinetuneSettings(rank=16))
    lora = [p.numel() for n, p in model.named_parameters() if "lora_" in n]
    assert len(lora) == 2 * len(dry.adapted) > 0
    assert sum(lora) == sum(16 * (inputs + outputs) for inputs, outputs in dry.adapted)


def test_a_published_encoder_is_taken_as_it_is(
    host_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shape = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    CLIPVisionModel(CLIPVisionConfig(**shape, image_size=24, patch_size=8)).save_pretrained("clip")
    said = '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2], "do_center_crop": false}'
    Path("clip/preprocessor_config.json").write_text(said)
    command = ["--model", "llava", "--encoder", "clip", "--checkpoint", str(host_directory), "--out", "graft"]
    assert swap.main(command) == 0
    out = capsys.readouterr().out
    assert "clip: recognised as transformers" in out
    assert "std (0.2, 0.2, 0.2); feature: cls" in out
    assert validate(Path("graft")).features == 9
    (tower,) = Path("runs/towers").glob("*.ckpt")
    assert swap.main([*command[:3], str(tower), *command[4:], "--dry-run"]) == 0


def test_a_hub_id_that_cannot_be_had_is_one_line(
    host_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    command = ["--model", "llava", "--encoder", "nobody/no-encoder", "--checkpoint", str(host_directory)]
    assert swap.main(command) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: nobody/no-encoder is neither in the cache nor to be had from the hub (")
    assert error.count("\n") == 1
