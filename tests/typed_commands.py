"""`mgll`, `python` and `accelerate` as a shell types them, without the seconds that each would spend on importing torch.

Three small programs go first on the PATH. Each hands its words, folder, environment and streams to a server that `launches`
started, which has the libraries and forks for every command; what it forks has seen nothing of another command. A test of Python's
own command line, or of what is imported, starts the real programs.
"""

import json
import os
import re
import runpy
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import launches

ROOT = Path(__file__).parents[1]
FENCED = re.compile(r"^```(?:bash|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (?=accelerate |python |make )((?:.*\\\n)*.*)", re.MULTILINE)
PROGRAMS = ("mgll", "python", "accelerate")
#: What a shell runs. A packet holds one command whole.
CLIENT = f"""#!{sys.executable} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect(SERVER)
    command = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    said = json.dumps([command, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [said], [0, 1, 2])
    sys.exit(int(server.recv(16)))
"""
SERVE = "import sys; sys.path.insert(0, sys.argv[1]); from typed_commands import serve; serve(sys.argv[2])"


def commands(text: str) -> list[str]:
    """The commands of a document, without comments, each on one line."""
    blocks = [*FENCED.findall(text), *INDENTED.findall(text)]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines) if line]


@contextmanager
def typed_commands(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which a shell finds the three programs; they and the server's socket lie in `folder`."""
    programs, at = folder / "programs", str(folder / "socket")
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).write_text(CLIENT.replace("SERVER", repr(at)), encoding="utf-8")
        (programs / name).chmod(0o755)
    server = launches.start(["-c", SERVE, str(ROOT / "tests"), at], folder / "server.txt")
    while server.is_alive() and not Path(at).exists():
        time.sleep(0.01)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    try:
        yield {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    finally:
        server.kill()
        server.join()


def serve(at: str) -> None:
    """Fork for every command that comes, and tell its exit status. A fork ends as any process of `launches` does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(at)
        door.listen()
        while True:
            command, _ = door.accept()
            if os.fork() == 0:
                door.close()
                _answer(command)
                return
            command.close()


def _answer(command: socket.socket) -> None:
    said, streams, *_ = socket.recv_fds(command, 1 << 20, 3)
    child = os.fork()
    if child == 0:
        words, folder, surroundings = json.loads(said)
        for stream, number in zip(streams, range(3), strict=True):
            os.dup2(stream, number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(surroundings)
        _become(*words)
    else:
        _, status = os.waitpid(child, 0)
        command.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(program: str, *words: str) -> None:
    """Do what Python would do with these words."""
    sys.path[:0] = [str(Path.cwd()), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if program != "python":
        words = ("-m", {"mgll": "mgll", "accelerate": "accelerate.commands.accelerate_cli"}[program], *words)
    if words[0] == "-m":
        sys.argv = list(words[1:])
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif not words[0].endswith(".py"):
        os.execv(sys.executable, [sys.executable, *words])
    else:
        sys.argv = list(words)
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        runpy.run_path(words[0], run_name="__main__")
