"""The whole chain on embedded data, nothing downloaded: what `make demo` runs.

Synthetic fundus photographs are drawn; a CLIP and an MGLL tower are pretrained on them; a tiny LLaVA is built on the first and the
second is grafted into it; both are fine-tuned alike and scored on the same four-option questions. A random tower goes the same
way as positive control. Ends with a table and one HTML report. Started again after a kill, it goes on where it was.

    python recipes/demo.py            # minutes, into runs/demo
    python recipes/demo.py --quick    # the same chain far too small to learn anything, to see that an installation works

Research use only, not for diagnosis.
"""

import os
import sys
import time
from pathlib import Path

from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser, as_typed
from mgll.stage import stage
from mgll.synthetic.dataset import VERSION, generate
from recipes.compare_towers import CompareSettings, compare

IMAGES, PIXELS, SEED = 1600, 128, 0
RUNS = Path("runs")
CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
#: Of `--quick`: fewer and smaller images, and settings over those of the file.
QUICK_IMAGES, QUICK_PIXELS = 480, 48
QUICK = "--pretrain.encoder vit-nano-16 --pretrain.image-size 32 --pretrain.epochs 1 --train-questions 96 --test-questions 48"
QUICK += " --finetune.steps 2"


@ends_in_one_line
def main() -> None:
    """Draw the photographs, compare the towers, say where everything is."""
    parser = CommandParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="far too small to learn anything; its numbers mean nothing"
    )
    quick = parser.parse_args().quick
    started = time.monotonic()
    print(as_typed(__doc__ or ""))
    images, pixels, out = (
        (QUICK_IMAGES, QUICK_PIXELS, RUNS / "demo-quick") if quick else (IMAGES, PIXELS, RUNS / "demo")
    )
    eyes = out / "eyes"
    drawn = {"images": images, "seed": SEED, "pixels": pixels, "generator": VERSION}
    workers = min(8, os.cpu_count() or 1)
    manifest = stage(eyes, drawn, lambda: generate(eyes, images, SEED, pixels, workers=workers)) / "manifest.jsonl"
    named = ["--config", str(CONFIG), "--manifest", str(manifest), "--out", str(out), *(QUICK.split() if quick else [])]
    compare(parse_settings(CompareSettings, "the demo's settings", named))
    minutes = (time.monotonic() - started) / 60
    print(f"\nthe demo took {minutes:.{int(quick)}f} minutes; open the report in a browser")
    if quick:
        print("It was the quick one: the chain works on this machine, and its numbers mean nothing.")


if __name__ == "__main__":
    sys.exit(main())
