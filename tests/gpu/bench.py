"""What every section of the GPU check is given, and what several of them ask the card."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

#: Dense bf16 peaks, in operations per second, of cards that share their chip with one in `mgll.training_cost.PEAKS`.
SAME_CHIP = {"H200": "H100", "H800": "H100", "GH200": "H100", "A800": "A100"}


@dataclass(frozen=True)
class Bench:
    """Where and how large a section measures.

    Attributes:
        device: the card; a CPU for a dry run.
        tiny: shapes so small that a CPU is through in seconds. Nothing is learnt of a card from them; the code is.
        folder: an empty folder of its own, removed afterwards.
        images: a manifest of photographs to decode; None draws some.
    """

    device: torch.device
    tiny: bool
    folder: Path
    images: Path | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether there is something to wait for, and memory of its own to measure."""
        return self.device.type == "cuda"

    def seconds(self, work: Callable[[], object], times: int = 1) -> float:
        """Seconds that some work takes the device, the mean over `times`."""
        self.wait()
        started = time.perf_counter()
        for _ in range(times):
            work()
        self.wait()
        return (time.perf_counter() - started) / times

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def forget_memory(self) -> None:
        """Give back what is no longer used, and start counting the peak anew."""
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_memory(self) -> int:
        """Largest number of bytes that tensors held on the card since `forget_memory`; 0 on a CPU."""
        return torch.cuda.max_memory_allocated() if self.on_gpu else 0

    def card_memory(self) -> tuple[int, int]:
        """Bytes of the card that are taken now, by whomever, and all it has; 0 and 0 on a CPU."""
        if not self.on_gpu:
            return 0, 0
        free, total = torch.cuda.mem_get_info()
        return total - free, total

    def peak_speed(self) -> float | None:
        """Dense bf16 operations per second that the card's data sheet promises; None for a CPU or a card not listed."""
        from mgll.training_cost import PEAKS

        name = torch.cuda.get_device_name() if self.on_gpu else ""
        chip = next((PEAKS[chip] for card, chip in SAME_CHIP.items() if card in name), None)
        return chip or next((peak for card, peak in PEAKS.items() if card in name), None)


def without_tf32() -> None:
    """Let float32 be float32: no product or convolution with 10 bits of mantissa."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def in_a_process(work: Callable[..., object], *arguments: Any) -> None:
    """Do some work in a forked process, whose memory goes when it ends. This process must not have used the card yet.

    Raises:
        RuntimeError: if the work failed; its own words are on standard error.
    """
    process = get_context("fork").Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{work.__name__} ended with {process.exitcode}; its last words stand above")


def peak_resident() -> int:
    """Largest number of bytes of main memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def resident() -> int:
    """Number of bytes of main memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()
