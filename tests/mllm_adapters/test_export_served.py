"""An export behind a real server of another project, asked through the endpoint scorer: it replies what our own scoring says."""

import contextlib
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from safetensors.torch import load_file, save_file

from benchmark.scorers.endpoint_scorer import EndpointScorer
from benchmark.scorers.scorer import Ask, AskError
from benchmark.scorers.transformers_scorer import TransformersScorer
from mgll.images.preprocessing import open_image
from mllm_adapters.export.exporting import export_model

pytest.importorskip("fastapi", reason="the server of transformers needs fastapi and uvicorn, from the extra `test`")

ORDERS = (("one", "two", "three", "four"), ("four", "three", "two", "one"))


@pytest.fixture(scope="module")
def export(host_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    host = shutil.copytree(host_directory, folder / "host")
    for shard in host.glob(
        "*.safetensors"
    ):  # random weights this small answer everything alike; larger ones look at it
        tensors = {name: tensor * (8 if "_proj" in name else 1) for name, tensor in load_file(shard).items()}
        save_file(tensors, shard, {"format": "pt"})
    return export_model(host, folder / "llava").out


@pytest.fixture(scope="module")
def endpoint(export: Path) -> Iterator[str]:
    """The server that transformers brings, on this machine, with the exported model and nothing of this package."""
    from transformers.cli.serve import Serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Serve(force_model=str(export), device="cpu", host="127.0.0.1", port=port, non_blocking=True)
    address = f"http://127.0.0.1:{port}"
    for _ in range(200):
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/health", trust_env=False).status_code == 200:
                break
        time.sleep(0.05)
    yield f"{address}/v1"
    server.kill_server()


@pytest.mark.slow
def test_replies_are_those_of_our_own_scoring(
    endpoint: str, export: Path, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asks = [Ask(open_image(path), "What is it?", ORDERS) for path in photographs[:2]]
    scorer = EndpointScorer(str(export), endpoint)
    served, own = scorer.score(asks, ["text"]), TransformersScorer(export).score(asks, ["text"])
    replies = [[score.text.strip() for score in scores] for scores in own]
    assert [[score.text for score in scores] for scores in served] == replies
    assert len({reply for row in replies for reply in row}) > 1
    with pytest.raises(AskError, match="no log-probabilities"):  # this server gives none, and says so in its log alone
        scorer.score(asks[:1], ["letter"])
