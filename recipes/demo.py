"""The whole chain on embedded data, nothing downloaded: what `make demo` runs.

Synthetic fundus photographs are drawn; a CLIP and an MGLL tower are pretrained on them; a tiny LLaVA is built on the first and the
second is grafted into it; both are fine-tuned alike and scored on the same four-option questions. A random tower goes the same
way as positive control. Ends with a table and one HTML report. Started again after a kill, it goes on where it was.

Research use only, not for diagnosis.
"""

import os
import sys
import time
from pathlib import Path

from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mgll.stage import stage
from mgll.synthetic.dataset import VERSION, generate
from recipes.compare_towers import CompareSettings, compare

IMAGES, PIXELS, SEED = 1600, 128, 0
OUT = Path("runs") / "demo"
CONFIG = Path(__file__).parent / "configs" / "demo.yaml"


@ends_in_one_line
def main() -> None:
    """Draw the photographs, compare the towers, say where everything is."""
    CommandParser(description=__doc__).parse_args()
    started = time.monotonic()
    print(__doc__)
    eyes = OUT / "eyes"
    drawn = {"images": IMAGES, "seed": SEED, "pixels": PIXELS, "generator": VERSION}
    workers = min(8, os.cpu_count() or 1)
    manifest = stage(eyes, drawn, lambda: generate(eyes, IMAGES, SEED, PIXELS, workers=workers)) / "manifest.jsonl"
    named = ["--config", str(CONFIG), "--manifest", str(manifest), "--out", str(OUT)]
    compare(parse_settings(CompareSettings, "the demo's settings", named))
    print(f"\nthe demo took {(time.monotonic() - started) / 60:.0f} minutes; open the report in a browser")


if __name__ == "__main__":
    sys.exit(main())
