"""Teach a small language model to read four-option questions, in words, before it is shown any image.

    python recipes/teach_reading.py --host runs/real/llava --out runs/real/llava-reader --mixed-precision bf16

Reads a host in the layout of transformers and writes the same host with another language model: its blocks are trained, its word
table, tower and connector stay. In the image's place stand findings in words, and mixtures of words as an aligned connector writes
them; findings and options are drawn at random over all disease names, so nothing is learnt about which is likely. Host and grafts
start from the result alike. A run that was killed goes on from its newest checkpoint.

Research use only, not for diagnosis.
"""

import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mgll.formats import check_there
from mgll.run_folder import locked
from mgll.stage import stage
from mllm_adapters.demo.settings import ReadingTraining

CHECKPOINTS = "checkpoints"
#: Number of questions that are asked before and after.
ASKED = 192


@dataclass(frozen=True)
class Settings(ReadingTraining):
    """How a host's language model learns to read (`ReadingTraining`), and where it goes.

    Attributes:
        host: folder of the host, in the layout of transformers.
        out: folder of the host that is written.
    """

    host: str = "runs/real/llava"
    out: str = "runs/real/llava-reader"
    steps: int = 400
    batch_size: int = 16
    learning_rate: float = 3e-4
    warmup: float = 0.1
    words_first: float = 0.25
    spread: float = 0.9
    most_positions: int = 1
    noise: float = 0.5
    centred: bool = True
    doubt: float = 0.6
    doubt_rises: float = 0.5


@ends_in_one_line
def main() -> None:
    """Teach, write, and say how many questions in words the language model answers before and after."""
    settings = parse_settings(Settings, __doc__ or "")
    check_there(settings.host)
    out = Path(settings.out)
    made = {name: value for name, value in asdict(settings).items() if name not in ("host", "out", "checkpoint_every")}
    with locked(out.parent):  # what lies in `out` is the host's
        stage(out, {"host": Path(settings.host), **made}, lambda: _teach(settings, out))


def _teach(settings: Settings, out: Path) -> None:
    # here, because torch takes seconds to import
    import torch

    from mgll.device import usual_device
    from mllm_adapters.checkpoints.tensors import read_checkpoint
    from mllm_adapters.demo.reading import reads_in_words
    from mllm_adapters.demo.reading_training import reads_mixtures, teach_reading
    from mllm_adapters.loading.load import load
    from mllm_adapters.loading.precision import stored_dtype

    stored = getattr(torch, stored_dtype(read_checkpoint(Path(settings.host))))
    loaded = load(settings.host, usual_device(), "float32")
    model, tokenizer = loaded.model, loaded.processor.tokenizer
    print(f"{settings.host}: {reads_in_words(loaded, ASKED):.1%} of questions in words right (chance 25 %)", flush=True)
    model.requires_grad_(False)
    model.get_decoder().layers.requires_grad_(True)
    with tqdm(total=settings.steps, desc="reading") as bar:
        recent: dict[bool, float] = {}

        def report(values: dict[str, float]) -> None:
            mixed = bool(values["spread"])
            recent[mixed] = 0.9 * recent.get(mixed, 0.25) + 0.1 * values["accuracy"]
            bar.update(int(values["step"]) - bar.n)
            bar.set_postfix({"in words": recent.get(False, 0.0), "mixed": recent.get(True, 0.0)}, refresh=False)

        teach_reading(model, tokenizer, loaded.host, settings, report, out / CHECKPOINTS)
    right = reads_in_words(loaded, ASKED)
    mixed = reads_mixtures(model, tokenizer, loaded.host, settings, max(1, ASKED // settings.batch_size))
    model.to(stored).save_pretrained(out)
    loaded.processor.save_pretrained(out)
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    print(
        f"{out}: {right:.1%} of questions in words right, {mixed:.1%} of those with a mixture of words in the image's place"
    )


if __name__ == "__main__":
    sys.exit(main())
