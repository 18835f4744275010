"""The device on which a model runs where the user names none."""

import os


def usual_device() -> str:
    """The GPU of this process (`cuda:LOCAL_RANK`), else Apple's (`mps`), else `cpu`."""
    import torch  # here, because it takes seconds to import

    if torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return "mps" if torch.backends.mps.is_available() else "cpu"
