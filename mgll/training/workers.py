"""Worker processes that read images."""

import signal


def end_on_sigterm(worker: int) -> None:
    """Let a worker process end on SIGTERM as on Ctrl-C.

    Schedulers send SIGTERM to workers too; without this, the main process would complain about a worker that died.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
