"""Fresh processes for tests, without the ten seconds that each would spend on importing torch and transformers.

A server, itself started afresh, imports the libraries once and forks for every launch. What it forks has seen nothing of the
tests' memory, and no model, seed or setting of another launch; it saves the imports and nothing else. A test of what is
imported, or of Python's own command line, starts Python itself.
"""

import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing import get_context, resource_tracker, set_start_method
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FRESH = get_context("spawn")
SERVER = get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "mgll.commandline",
        "mgll.training.pretraining",
        "mllm_adapters.finetuning.finetune",
        "mllm_adapters.loading.load",
        "transformers.models.auto.modeling_auto",
    ]
)


def start(
    command: Sequence[str | Path],
    out: Path,
    error: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    server: BaseContext = SERVER,
) -> BaseProcess:
    """Start `SCRIPT ARGUMENT...` or `-c CODE ARGUMENT...` in a group of processes of its own.

    Args:
        command: what would follow `python`.
        out: file to which its standard output is appended.
        error: the same for its standard error; the same file if not given.
        env: environment; that of this process if not given.
        cwd: folder in which it runs; that of this process if not given.
        server: what starts the process; `FRESH` starts Python itself, with nothing imported.

    Returns:
        Process, whose `exitcode` is as `Popen.returncode`.
    """
    words = [str(word) for word in command]
    surroundings = dict(os.environ if env is None else env)
    process: BaseProcess = server.Process(target=_run, args=(words, out, error or out, surroundings, cwd or Path.cwd()))
    process.start()
    assert process.pid is not None
    while process.is_alive() and not _leads_a_group(process.pid):
        time.sleep(0.001)
    return process


def start_several(count: int, command: Sequence[str | Path], out: Path, error: Path | None = None) -> list[BaseProcess]:
    """Start the same that many times, with the variables by which `torchrun` tells processes of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    shared |= {"LOCAL_WORLD_SIZE": str(count)}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return [start(command, out, error, {**os.environ, **shared, **rank}) for rank in ranks]


def run(
    command: Sequence[str | Path],
    timeout: float = 300,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Start the same, wait for its end, and return what it said."""
    with TemporaryDirectory() as folder:
        out, error = Path(folder) / "out", Path(folder) / "error"
        process = start(command, out, error, env, cwd)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([str(word) for word in command], timeout)
        return subprocess.CompletedProcess(list(command), process.exitcode, out.read_text(), error.read_text())


def _leads_a_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def _run(command: list[str], out: Path, error: Path, env: dict[str, str], cwd: Path) -> None:
    """What the forked process does: become what Python would be at its start, and run the command."""
    set_start_method(None, force=True)  # the server's would be that of its workers too
    tracker: Any = resource_tracker._resource_tracker
    tracker._fd = tracker._pid = None  # it gets one of its own, which cleans up after it if it is killed
    signal.signal(signal.SIGINT, signal.default_int_handler)  # workers of pytest-xdist ignore Ctrl-C
    for path, stream in ((out, 1), (error, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, stream)
        os.close(opened)
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    if command[0] == "-c":
        sys.argv = ["-c", *command[2:]]
        exec(compile(command[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = command
        sys.path.insert(0, str(Path(command[0]).resolve().parent))
        runpy.run_path(command[0], run_name="__main__")
