"""The device on which a model runs where the user names none, and what it is good at."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: What torch calls the instructions by which a CPU multiplies in bfloat16 (AVX-512 BF16, AMX).
_CPU_BFLOAT16 = ("avx512_bf16", "amx_bf16")


def usual_device() -> str:
    """The GPU of this process (`cuda:LOCAL_RANK`), else Apple's (`mps`), else `cpu`."""
    import torch  # here, because it takes seconds to import

    if torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def multiplies_in_bfloat16(device: "str | torch.device") -> bool:
    """Whether a device multiplies matrices in bfloat16 by itself: NVIDIA from Ampere on, CPUs with AVX-512 BF16 or AMX."""
    import torch  # here, because it takes seconds to import

    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(map(torch.cpu.get_capabilities().get, _CPU_BFLOAT16))
