"""Make the demo's language model: a small LLaMA warmed on text-only questions (see mllm_adapters/demo/decoder_training.py).

    python recipes/train_demo_decoder.py                        # a few minutes on two cores
    python recipes/train_demo_decoder.py --steps 300 --out runs/quick
    python recipes/train_demo_decoder.py --image-first true     # the LoRA for families whose image stands in front of all text

Writes decoder.safetensors, or image_first.safetensors; the weights that ship with the package are such files, copied to
mllm_adapters/demo/.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mgll.files import write_text
from mgll.provenance import provenance
from mllm_adapters.demo.settings import DecoderTraining, ReadingTraining


@dataclass(frozen=True)
class Settings(DecoderTraining):
    """How the demo's language model is trained (`DecoderTraining`), and where it goes.

    Attributes:
        out: folder of the run.
        image_first: train the LoRA of `mllm_adapters.demo.image_first` on the decoder that ships, with the defaults of
            `ReadingTraining`; the settings above do not matter then.
    """

    out: str = "runs/demo_decoder"
    image_first: bool = False


@ends_in_one_line
def main() -> None:
    """Warm, write, and say how many text-only questions the decoder answers."""
    settings = parse_settings(Settings, __doc__ or "")
    if settings.image_first:
        _image_first(Path(settings.out))
        return
    # here, because torch takes seconds to import
    from mllm_adapters.demo.decoder import build_tokenizer, save_decoder
    from mllm_adapters.demo.decoder_training import train_decoder
    from mllm_adapters.demo.reading import text_only_accuracy

    out = Path(settings.out)
    with tqdm(total=settings.steps, desc="warming", disable=None) as bar:
        decoder = train_decoder(settings, _progress(bar.update, bar.set_postfix))
    save_decoder(decoder, out / "decoder.safetensors")
    accuracy = text_only_accuracy(decoder, build_tokenizer())
    record = {"settings": asdict(settings), "text_only_accuracy": accuracy, "provenance": provenance()}
    write_text(out / "decoder.json", json.dumps(record, indent=2) + "\n")
    print(f"{out / 'decoder.safetensors'}: {accuracy:.1%} of text-only questions right (chance 25 %)")


def _image_first(out: Path) -> None:
    from mllm_adapters.demo.image_first import save_lora, train_image_first

    settings = ReadingTraining()
    with tqdm(total=settings.steps, desc="warming", disable=None) as bar:
        lora = train_image_first(settings, _progress(bar.update, bar.set_postfix))
    save_lora(lora, out / "image_first.safetensors")
    print(out / "image_first.safetensors")


def _progress(advance: Callable[..., object], show: Callable[..., object]) -> Callable[[dict[str, float]], None]:
    recent: dict[bool, float] = {}

    def report(values: dict[str, float]) -> None:
        spread = bool(values["spread"])
        recent[spread] = 0.95 * recent.get(spread, 0.25) + 0.05 * values["accuracy"]
        advance(1)
        show({"in words": recent.get(False, 0.0), "spread": recent.get(True, 0.0)}, refresh=False)

    return report


if __name__ == "__main__":
    sys.exit(main())
