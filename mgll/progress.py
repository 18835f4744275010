"""How far a recipe of several steps is: one line at the start of each, with the time that is left."""

import sys
import time
from collections.abc import Callable

#: A step that took less, in seconds, was done before and says nothing about those to come.
DONE_BEFORE = 1.0


def overall(total: int) -> Callable[[str], None]:
    """A function to call at the start of each of `total` steps; it says on standard error which one that is.

    The time left is reckoned from the mean of the steps of this run, without those that were done before it. Call it in the main
    process only.
    """
    begun = 0
    last = time.monotonic()
    took: list[float] = []

    def say(step: str) -> None:
        nonlocal begun, last
        now = time.monotonic()
        if begun and now - last >= DONE_BEFORE:
            took.append(now - last)
        begun, last = begun + 1, now
        left = f", about {_time((total - begun + 1) * sum(took) / len(took))} left" if took else ""
        print(f"[{begun} of {total}{left}] {step}", file=sys.stderr, flush=True)

    return say


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
