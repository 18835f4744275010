r"""Does an encoder go the whole way? Some real steps of pretraining, a tower file, a graft into a small LLaVA, an answer.

    python recipes/check_encoders.py --manifest fundus.jsonl                      # every encoder of the table, hours on a CPU
    python recipes/check_encoders.py --manifest fundus.jsonl --encoders '[vit-large-14, timm:resnet50]' --image-sizes '[224, 336]'
    python recipes/check_encoders.py --manifest fundus.jsonl --encoders '[vit-tiny-16]' --text-encoders '[DIR_OR_HUB_ID]' \
        --text-trainings '[frozen, 2, full]' --text-poolings '[mean, last]'

Every combination is a process of its own, so that its peak memory is its own and one that is killed leaves the others alone.
`random:NAME` is a model of transformers at its class's default (base) size with random weights, for where there is no network.
Research use only, not for diagnosis.
"""

import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mgll.formats import check_there
from mgll.progress import overall
from mgll.settings import PretrainSettings, TextPooling, TextTraining
from mllm_adapters.encoder_check import EncoderCheck, check_encoder

ENCODERS = (
    "vit-base-16",
    "vit-large-14",
    "vit-huge-14",
    "convnext-base",
    "convnext-large",
    "open_clip:ViT-B-16-quickgelu",
    "open_clip:ViT-B-16-SigLIP",
    "open_clip:convnext_base",
    "open_clip:RN50",
    "timm:vit_base_patch16_224",
    "timm:resnet50",
    "timm:swin_base_patch4_window7_224",
    "timm:convnextv2_base",
    "random:clip",
    "random:siglip",
    "random:dinov2",
    "random:vit",
)
COLUMNS = ("encoder", "px", "text encoder", "parameters, M", "loss", "s a step", "GiB", "grid", "tokens", "")


@dataclass(frozen=True)
class CheckSettings:
    """What is checked: every combination of encoders, sizes and texts.

    Attributes:
        manifest: manifest from whose `train` split one batch is taken.
        out: folder for the table, `encoders.md`; each check needs six times its encoder on the disk meanwhile.
        encoders: as `PretrainSettings.encoder`, or `random:` and clip, siglip, dinov2 or vit.
        image_sizes: sides of the towers' input in pixels.
        text_encoders: as `PretrainSettings.text_encoder`, or `random:` and bert or clip.
        text_trainings: as `PretrainSettings.text_training`.
        text_poolings: as `PretrainSettings.text_pooling`.
        batch_size: images a step.
        steps: of AdamW, all on the same images.
        learning_rate: AdamW's; small, because at first it changes all of a large encoder by as much at once.
        gradient_checkpointing: as in `PretrainSettings`.
    """

    manifest: str
    out: str = "runs/encoders"
    encoders: tuple[str, ...] = ENCODERS
    image_sizes: tuple[int, ...] = (224,)
    text_encoders: tuple[str, ...] = ("embedded",)
    text_trainings: tuple[TextTraining, ...] = ("frozen",)
    text_poolings: tuple[TextPooling, ...] = ("auto",)
    batch_size: int = 4
    steps: int = 3
    learning_rate: float = 1e-5
    gradient_checkpointing: bool = False


@ends_in_one_line
def main() -> int:
    """Check all combinations; 1 if one of them fell short."""
    settings = parse_settings(CheckSettings, __doc__ or "")
    check_there(settings.manifest)
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    lines = [_line(COLUMNS), "|---" * len(COLUMNS) + "|"]
    print("\n".join(lines), flush=True)
    sides = (settings.text_encoders, settings.text_trainings, settings.text_poolings)
    combinations = list(product(settings.encoders, settings.image_sizes, *sides))
    say = overall(len(combinations))
    for encoder, size, text_encoder, training, pooling in combinations:
        say(f"{encoder}, {size} px, {text_encoder}")
        with tempfile.TemporaryDirectory(dir=out) as folder, _one_process() as process:
            run = PretrainSettings(
                manifest=settings.manifest,
                out=f"{folder}/run",
                encoder=encoder,
                image_size=size,
                text_encoder=text_encoder,
                text_training=training,
                text_pooling=pooling,
                batch_size=settings.batch_size,
                learning_rate=settings.learning_rate,
                gradient_checkpointing=settings.gradient_checkpointing,
            )
            try:
                found = _cells(process.submit(_check, run, settings.steps, out).result())
            except BrokenProcessPool:
                found = ["", "", "", "", "", "", "**its process was killed: out of memory?**"]
            except (ValueError, RuntimeError, OSError) as error:
                found = ["", "", "", "", "", "", f"**{error}**".replace("\n", " ")]
        lines.append(_line([encoder, str(size), f"{text_encoder}, {training}, {pooling}", *found]))
        print(lines[-1], flush=True)
    (out / "encoders.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(any("**" in line for line in lines))


def _one_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def _check(run: PretrainSettings, steps: int, cache: Path) -> EncoderCheck:
    """Run one check; called in a process of its own, so that its peak memory is its own."""
    # here, because torch takes seconds to import
    from mllm_adapters.demo.host import demo_checkpoint

    folders = Path(run.out).parent
    if run.encoder.startswith("random:"):
        run = replace(run, encoder=random_encoder(run.encoder, folders / "encoder"))
    if run.text_encoder.startswith("random:"):
        run = replace(run, text_encoder=random_text_encoder(run.text_encoder, folders / "text_encoder"))
    return check_encoder(run, steps, demo_checkpoint(cache))


def random_encoder(name: str, folder: Path) -> str:
    """The encoder's name for a folder, made here, with a vision model of transformers."""
    from transformers import CLIPVisionConfig, Dinov2Config, SiglipVisionConfig, ViTConfig

    kinds = {"clip": CLIPVisionConfig, "siglip": SiglipVisionConfig, "dinov2": Dinov2Config, "vit": ViTConfig}
    return f"hf:{_save_random(name, kinds, folder)}"


def random_text_encoder(name: str, folder: Path) -> str:
    """A folder, made here, with a text model of transformers and a real tokenizer of its kind."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import AutoTokenizer, BertConfig, CLIPTextConfig, CLIPTokenizer

    from mgll.encoders.text import embedded_text_encoder

    saved = _save_random(name, {"bert": BertConfig, "clip": CLIPTextConfig}, folder)
    if name == "random:bert":
        AutoTokenizer.from_pretrained(embedded_text_encoder()).save_pretrained(folder)
    else:
        pairs, (start, end) = SimpleTokenizer(), ("<start_of_text>", "<end_of_text>")
        special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
        CLIPTokenizer(vocab=pairs.encoder, merges=list(pairs.bpe_ranks), **special).save_pretrained(folder)
    return saved


def _save_random(name: str, kinds: dict[str, Any], folder: Path) -> str:
    from transformers import AutoModel

    kind = name.removeprefix("random:")
    if kind not in kinds:
        raise ValueError(f"no {name} is known; known: {', '.join(f'random:{known}' for known in kinds)}")
    AutoModel.from_config(kinds[kind]()).save_pretrained(folder)
    return str(folder)


def _cells(check: EncoderCheck) -> list[str]:
    texts = f"{check.text_parameters / 1e6:.1f} ({check.text_trained / 1e6:.1f} trained)"
    return [
        f"{check.parameters / 1e6:.1f} + {texts}",
        f"{check.losses[0]:.3f} → {check.losses[-1]:.3f}",
        f"{check.seconds:.1f}",
        f"{check.memory:.1f}",
        f"{check.grid} x {check.grid}",
        str(check.tokens),
        f"**{'; '.join(check.problems)}**" if check.problems else "passed",
    ]


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
