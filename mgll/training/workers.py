"""Worker processes that prepare batches, and the memory in which these wait for the steps."""

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

#: Where the batches of worker processes lie, on Linux.
SHARED = Path("/dev/shm")
#: Whether workers share the memory of the main process. Elsewhere they start empty, because libraries of a Mac do not bear a fork.
SHARES = sys.platform == "linux"
#: Files that a process may have open with workers: each tensor of a batch that waits is one, and the usual limit is 1,024.
MOST_FILES = 65_536
#: Batches that lie there beside those that wait: the one that is being made pinned, and the one of the step.
BESIDE = 2


def end_on_sigterm(worker: int) -> None:
    """Let a worker process end on SIGTERM as on Ctrl-C.

    Schedulers send SIGTERM to workers too; without this, the main process would complain about a worker that died.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def processes_here() -> int:
    """Number of processes that the launcher started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def affordable_prefetch(batch_bytes: int, workers: int, prefetch: int, free: int | None = None) -> int:
    """How many batches each worker may prepare ahead, at most `prefetch`, so that all of them fit into shared memory.

    Where they do not, the system ends a process with no more than "Bus error"; containers often have 64 MB.

    Args:
        batch_bytes: size of a batch.
        workers: number of worker processes.
        prefetch: what is asked for.
        free: bytes of shared memory for this process; None looks at the machine and divides by `processes_here`.

    Raises:
        ValueError: if not even one batch of each worker fits.
    """
    if free is None:
        if not SHARED.is_dir():
            return prefetch
        found = os.statvfs(SHARED)
        free = found.f_bavail * found.f_frsize // processes_here()
    fits = (free // max(1, batch_bytes) - BESIDE) // max(1, workers)
    if fits < 1:
        raise ValueError(
            f"{workers} workers with a batch of {batch_bytes / 1e6:,.0f} MB each need {(workers + BESIDE) * batch_bytes / 1e6:,.0f}"
            f" MB of {SHARED}, where {free / 1e6:,.0f} MB are free for this process; lower --workers, or give the container more"
            " (docker's --shm-size)"
        )
    return min(prefetch, fits)


def worker_options(workers: int, prefetch: int) -> dict[str, Any]:
    """Arguments of a `DataLoader` for so many workers; forked where `SHARES`, so that they share what the main process has read."""
    if not workers:
        return {}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return {
        "num_workers": workers,
        "prefetch_factor": prefetch,
        "worker_init_fn": end_on_sigterm,
        "multiprocessing_context": "fork" if SHARES else None,
    }
