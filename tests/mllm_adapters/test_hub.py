"""Checkpoints by their hub id: huggingface_hub's real client, its real cache, and a server on this machine in the hub's place."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mllm_adapters.hub import files_to_download

ROOT = Path(__file__).parents[2]
NAME, COMMIT = "owner/llava", "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """The four requests that downloading a repository takes."""

    files: Path
    asked: list[str]

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(f"/api/models/{NAME}/tree/"):
            listed = [
                {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": _etag(p)}
                for p in self.files.iterdir()
            ]
            self._send(json.dumps(listed).encode(), body)
        elif path.startswith(f"/api/models/{NAME}"):
            self._send(json.dumps({"id": NAME, "sha": COMMIT, "siblings": []}).encode(), body)
        elif path.startswith(f"/{NAME}/resolve/{COMMIT}/"):
            file = self.files / path.rpartition("/")[2]
            self.asked.append(file.name)
            self._send(file.read_bytes(), body, _etag(file))
        else:
            self.send_error(404)

    def _send(self, content: bytes, body: bool, etag: str = "") -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Be silent."""


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@pytest.fixture
def repository(host_directory: Path, tmp_path: Path) -> Path:
    """The tiny host with all of its weights twice, as safetensors and as `.bin`."""
    folder = tmp_path / "repository"
    folder.mkdir()
    tensors = {}
    for path in host_directory.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
        if path.suffix == ".safetensors":
            tensors |= load_file(path)
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "consolidated.00.pth").write_bytes(b"the same again")
    return folder


@pytest.fixture
def hub(repository: Path) -> Iterator[tuple[str, list[str]]]:
    handler = type("OneHub", (Hub,), {"files": repository, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.asked
    server.shutdown()


ASK = """
import sys
from mllm_adapters.contract.terms import HostError
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.hub import resolve_checkpoint
try:
    print(resolve_checkpoint(get_host("llava"), sys.argv[1])[0])
except HostError as error:
    sys.exit(str(error))
"""


def ask(cache: Path, endpoint: str, offline: bool = False) -> subprocess.CompletedProcess[str]:
    # the client reads these when it is imported
    settings = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    settings |= {"HF_HUB_OFFLINE": str(int(offline)), "PYTHONPATH": str(ROOT), "HF_HUB_ETAG_TIMEOUT": "2"}
    command = [sys.executable, "-c", ASK, NAME]
    return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=120)


def part_of_cache(cache: Path, repository: Path, wanted: Callable[[str], bool]) -> Path:
    """Files in the cache as `AutoProcessor` leaves them: blobs, links to them, and no list of what the repository has."""
    folder = cache / "models--owner--llava"
    snapshot = folder / "snapshots" / COMMIT
    for made in (snapshot, folder / "blobs", folder / "refs"):
        made.mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    for path in repository.iterdir():
        if wanted(path.name):
            (folder / "blobs" / _etag(path)).write_bytes(path.read_bytes())
            (snapshot / path.name).symlink_to(f"../../blobs/{_etag(path)}")
    return snapshot


@pytest.mark.slow
def test_a_cache_with_configuration_and_tokenizer_alone_is_filled_from_the_hub(
    hub: tuple[str, list[str]], repository: Path, tmp_path: Path
) -> None:
    endpoint, asked = hub
    part_of_cache(tmp_path / "cache", repository, lambda name: name.endswith("json") and "index" not in name)
    done = ask(tmp_path / "cache", endpoint)
    assert done.returncode == 0, done.stderr
    directory = Path(done.stdout.strip())
    shards = {path.name for path in repository.glob("*.safetensors")}
    assert {path.name for path in directory.glob("*.safetensors")} == shards
    assert shards <= set(asked)
    assert not {"pytorch_model.bin", "consolidated.00.pth"} & set(asked)  # the same weights again
    asked.clear()
    again = ask(tmp_path / "cache", endpoint)
    assert again.stdout == done.stdout
    assert not asked  # what is whole is taken from the cache
    assert ask(tmp_path / "cache", endpoint, offline=True).stdout == done.stdout


@pytest.mark.slow
def test_without_the_hub_the_message_says_what_the_cache_lacks(repository: Path, tmp_path: Path) -> None:
    cache, nobody = tmp_path / "cache", "http://127.0.0.1:9"
    for offline in (True, False):
        done = ask(cache, nobody, offline)
        assert done.returncode == 1
        assert "is neither in the cache nor to be had from the hub" in done.stderr
    snapshot = part_of_cache(cache, repository, lambda name: name.endswith("json") and "index" not in name)
    for offline in (True, False):
        done = ask(cache, nobody, offline)
        assert done.returncode == 1
        assert f"is not whole in the cache, {snapshot} (none of model.safetensors" in done.stderr
        assert "and not to be had from the hub" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_tokenizer_that_the_cache_lacks_is_downloaded(
    hub: tuple[str, list[str]], repository: Path, tmp_path: Path
) -> None:
    """As `from_pretrained` of the model's class leaves it: weights and configuration."""
    endpoint, asked = hub
    part_of_cache(tmp_path / "cache", repository, lambda name: name.startswith(("model", "config")))
    assert "(no tokenizer in it)" in ask(tmp_path / "cache", "http://127.0.0.1:9").stderr
    done = ask(tmp_path / "cache", endpoint)
    assert done.returncode == 0, done.stderr
    assert "tokenizer.json" in asked
    assert not [name for name in asked if name.endswith((".safetensors", ".bin"))]


@pytest.mark.slow
def test_a_shard_that_the_cache_lacks_is_downloaded(
    hub: tuple[str, list[str]], repository: Path, tmp_path: Path
) -> None:
    endpoint, asked = hub
    missing = sorted(path.name for path in repository.glob("*.safetensors"))[1]
    part_of_cache(tmp_path / "cache", repository, lambda name: name != missing and not name.endswith((".bin", ".pth")))
    assert missing in ask(tmp_path / "cache", "http://127.0.0.1:9").stderr
    done = ask(tmp_path / "cache", endpoint)
    assert done.returncode == 0, done.stderr
    assert {name for name in asked if name.endswith(".safetensors")} == {missing}


def test_what_is_downloaded_of_the_published_repositories() -> None:
    """Listings of the shape that the default checkpoints and parts have on the hub."""
    both = ["config.json", "tokenizer.model", "model.safetensors.index.json", "pytorch_model.bin.index.json"]
    shards = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    bins = [f"pytorch_model-0000{i}-of-00003.bin" for i in (1, 2, 3)]
    assert files_to_download([*both, *shards, *bins]) == [*both, *shards]
    assert files_to_download([*both[:2], both[3], *bins]) == [*both[:2], both[3], *bins]
    consolidated = ["consolidated.safetensors", "params.json", "original/consolidated.00.pth", "onnx/model.onnx"]
    assert files_to_download([*both, *shards, *consolidated]) == [*both, "params.json", *shards]
    clip = ["config.json", "flax_model.msgpack", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "vocab.json"]
    assert files_to_download(clip) == ["config.json", "vocab.json", "model.safetensors"]
    convnext = ["open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "README.md"]
    assert files_to_download(convnext) == ["open_clip_config.json", "open_clip_model.safetensors"]
    assert files_to_download(["README.md", "model.pt"]) == ["model.pt"]
    lora = ["adapter_config.json", "adapter_model.safetensors", "non_lora_trainables.bin"]
    assert files_to_download(lora) == lora
    variants = [
        "model.safetensors",
        "model.fp16.safetensors",
        "qformer_tokenizer/tokenizer.json",
        "sub/model.safetensors",
    ]
    assert files_to_download(variants) == ["qformer_tokenizer/tokenizer.json", "model.safetensors"]
    assert files_to_download(["training_args.bin", "model.safetensors", "optimizer.pt"]) == ["model.safetensors"]
