"""FIVES: 800 photographs of four kinds, whose file names end in the kind -> manifest.

The folder holds `train/Original/1_A.png` and `test/Original/1_A.png`, beside the vessels in `Ground truth`. A is age-related
macular degeneration, D diabetic retinopathy, G glaucoma and N normal. The paper (Table 13) takes a fifth of the training images
for validation.

    python -m mgll.readers.fives FOLDER --out manifest.jsonl
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgll.manifest.records import Split
from mgll.readers.published_command import command_of
from mgll.readers.published_files import find, images_in
from mgll.readers.published_set import Download, Listed, PublishedSet

_SPLITS: tuple[Split, ...] = ("train", "test")


def _listed(folder: Path, notes: Counter[str]) -> Iterator[Listed]:
    for split in _SPLITS:
        for image in images_in(find(folder, f"{split}/Original")):
            yield Listed(image, {"kind": image.stem.rpartition("_")[2]}, split)


FIVES = PublishedSet(
    Download(
        "FIVES",
        "fives",
        "fundus photographs",
        "the archive at https://doi.org/10.6084/m9.figshare.19688169",
        "CC BY 4.0",
    ),
    _listed,
    labels=("kind",),
    vocabulary=("fives",),
    validation=0.2,
)
main = command_of(FIVES, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
