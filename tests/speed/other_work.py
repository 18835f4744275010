"""Whose machine was it meanwhile? The cores that other processes kept busy, and the name of the processor."""

import os
import platform
import time
from pathlib import Path

import psutil

#: What decides how fast a processor multiplies, the fastest first, as `/proc/cpuinfo` and we call them.
EXTENSIONS = {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}
#: Other processes may use so much of the machine before it is said not to be idle.
IDLE = 0.05
#: The system counts in hundredths of a second: less than this tells nothing.
_MOMENT = 0.2


class OtherWork:
    """Counts from its making on: processor time of the whole machine less that of this process and all that it started."""

    def __init__(self) -> None:
        self._then, self._found = _clocks(), 0.0

    def cores(self) -> float:
        """Cores that others kept busy since the last call, on average; what that one found, where it was a moment ago."""
        now = _clocks()
        seconds, machine, own = (after - before for after, before in zip(now, self._then, strict=True))
        if seconds > _MOMENT:
            self._then, self._found = now, max(machine - own, 0.0) / seconds
        return self._found


def others_now(seconds: float = 1.0) -> float:
    """Cores that other processes keep busy while this one waits."""
    counted = OtherWork()
    time.sleep(seconds)
    return counted.cores()


def processor() -> str:
    """Name of the processor, what it multiplies with, and the number of cores."""
    path = Path("/proc/cpuinfo")
    said = path.read_text(encoding="utf-8") if path.is_file() else ""
    fields = dict(line.split(":", 1) for line in said.partition("\n\n")[0].splitlines() if ":" in line)
    about = {key.strip(): value.strip() for key, value in fields.items()}
    name = about.get("model name") or platform.processor() or platform.machine()
    has = [ours for theirs, ours in EXTENSIONS.items() if theirs in about.get("flags", "").split()]
    return f"{name} ({', '.join(has) or 'neither AMX, AVX-512 nor AVX2 known'}), {os.cpu_count()} cores"


def _clocks() -> tuple[float, float, float]:
    """Seconds by the clock, of the machine's processors, and of those this process and its children have used."""
    machine = psutil.cpu_times()
    # what guests use is counted in `user` already; what the host takes away (`steal`) is others' work
    waiting = ("idle", "iowait", "guest", "guest_nice")
    busy = sum(value for name, value in machine._asdict().items() if name not in waiting)
    own = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:  # it has ended meanwhile: its parent's count has it
            continue
        own += times.user + times.system + times.children_user + times.children_system
    return time.monotonic(), busy, own
