"""Letter scoring in four orders against lmms-eval's LLaVA that stops after its letter, beside what tokens and tower passes allow.

    python tests/speed/letter_scoring_limit.py [--cases 2] [--rounds 3]

The wrapper passes the tower and the whole prompt for each order; scoring passes the tower once and what the orders share once. How
many times faster that may be follows from the cost of a tower's pass and of a token, both measured here in the wrapper. Then says
where the processor time of both goes: the tower, the rest of the model, and all that is no model.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "mllm_adapters"))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

from letter_scoring import FourOrders, lmms_wrapper, one_quiet_thread, save_llava
from rows import Row, at_least, not_measured, say, shown

WORK, RIVAL = "cases/s, letter scoring in 4 orders", "lmms-eval's llava_hf, stopped after its letter"


class Spent(NamedTuple):
    """Seconds of a core."""

    tower: float
    decoder: float
    rest: float

    @property
    def whole(self) -> float:
        """All of them."""
        return sum(self)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    say(rows(options.cases, options.rounds))


def rows(count: int = 1, rounds: int = 2) -> Iterator[Row]:
    """How many times faster, and how near that is to its limit."""
    one_quiet_thread()
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield from compare(Path(folder), count, rounds)
        except ImportError as error:
            yield not_measured(WORK, RIVAL, f"not installed ({error})")


def compare(folder: Path, count: int, rounds: int) -> Iterator[Row]:
    """The ratio and its limit, and where the time goes."""
    from mllm_adapters.prompting.encoding import encode_prompts
    from mllm_adapters.prompting.tree import _plant

    directory = save_llava(folder / "llava")
    orders = FourOrders(directory, count)
    loaded = orders.scorer._loaded
    case = encode_prompts(loaded, orders.asks[0].image, [loaded.host.prompt(text) for text in orders.asks[0].texts])
    tree, _ = _plant(case, [[] for _ in case.ids])
    wrapper, model = lmms_wrapper(directory, orders.asks, new_tokens=1)
    wrapper(), orders.score()
    taken = [(spent(wrapper, model), spent(orders.score, loaded.model)) for _ in range(rounds)]
    theirs, ours = (Spent(*(median(parts) for parts in zip(*found, strict=True))) for found in zip(*taken, strict=True))
    token = theirs.decoder / (count * sum(map(len, case.ids)))
    limit = (theirs.tower + theirs.decoder) / (theirs.tower / 4 + token * count * len(tree.ids))
    ratio = median(wrapped.whole / scored.whole for wrapped, scored in taken)
    yield shown(WORK, RIVAL, ratio, f"ms of a core a case: theirs {_said(theirs, count)}; ours {_said(ours, count)}")
    note = f"{sum(map(len, case.ids))} tokens whole, {len(tree.ids)} in a tree; the limit is {limit:.2f} x"
    yield at_least(WORK, "the limit by tokens and tower passes", ratio / limit, 0.95, note)


def _said(found: Spent, count: int) -> str:
    return ", ".join(f"{part} {1000 * seconds / count:.0f}" for part, seconds in found._asdict().items())


def spent(work: Callable[[], object], model: Any) -> Spent:
    """Processor time of some work, with that of a LLaVA's tower and of the rest of the model apart."""
    with stopwatch(model.model.vision_tower) as tower, stopwatch(model) as whole:
        started = time.process_time()
        work()
        every = time.process_time() - started
    return Spent(sum(tower), sum(whole) - sum(tower), every - sum(whole))


@contextmanager
def stopwatch(module: Any) -> Iterator[list[float]]:
    """Yield the processor time of each forward pass of a module while it is open."""
    begun: list[float] = []
    taken: list[float] = []
    hooks = (
        module.register_forward_pre_hook(lambda *_: begun.append(time.process_time())),
        module.register_forward_hook(lambda *_: taken.append(time.process_time() - begun.pop())),
    )
    try:
        yield taken
    finally:
        for hook in hooks:
            hook.remove()


if __name__ == "__main__":
    main()
