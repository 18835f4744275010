"""Pretrain a vision tower with MGLL (or CLIP, SigLIP or SupCon) and write it as `mgll.ckpt`.

    accelerate launch recipes/pretrain_mgll.py                                   # a small embedded run, minutes on a laptop
    accelerate launch recipes/pretrain_mgll.py --config recipes/configs/paper_fundus.yaml --manifest fundus.jsonl
    accelerate launch recipes/pretrain_mgll.py --manifest fundus.jsonl --objective clip --out runs/clip

Killed runs resume from the newest checkpoint in `--out` when started again with the same settings.
"""

import sys
from dataclasses import replace
from pathlib import Path

from mgll.commandline import parse_settings, stopped_by_signals
from mgll.encoders.names import check_encoder_name
from mgll.ending import ends_in_one_line
from mgll.flags import as_typed
from mgll.formats import check_there, read_header
from mgll.manifest.records import SCHEMA
from mgll.settings import PretrainSettings
from mgll.synthetic import generate

EMBEDDED_IMAGES = 640


@ends_in_one_line
def main() -> None:
    """Parse the settings and train."""
    settings = parse_settings(PretrainSettings, __doc__ or "")
    folder = settings.encoder.removeprefix("hf:")
    check_encoder_name(settings.encoder)
    check_there(settings.manifest, settings.start_weights, folder if folder != settings.encoder else None)
    if settings.manifest:
        read_header(settings.manifest, SCHEMA)  # another kind of file is found before torch is imported
    with stopped_by_signals(settings.out):
        train(settings)


def train(settings: PretrainSettings) -> None:
    """Make the embedded photographs if no manifest is named, and train."""
    # here, because torch takes seconds to import
    from mgll.training.distributed import first_process
    from mgll.training.pretraining import pretrain

    if settings.manifest is None:
        with first_process() as is_first:
            if is_first:
                print(
                    "No --manifest: training a small embedded configuration (ViT-Ti/16 at 96 px on"
                    f" {EMBEDDED_IMAGES} synthetic fundus photographs).\n"
                    "The paper's is recipes/configs/paper_fundus.yaml (ViT-L/14, 224 px, batch 32); add --manifest FILE.",
                    flush=True,
                )
            manifest = generate(Path(settings.out) / "synthetic", EMBEDDED_IMAGES, seed=0) if is_first else None
        settings = replace(settings, manifest=str(manifest or Path(settings.out) / "synthetic" / "manifest.jsonl"))
    tower = pretrain(settings)
    with first_process() as is_first:
        if is_first:
            swap = as_typed("python -m mllm_adapters.swap")
            print(f"{tower}\nnext: {swap} --model llava --encoder {tower}")


if __name__ == "__main__":
    sys.exit(main())
