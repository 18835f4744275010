"""RIM-ONE DL: glaucoma or normal -> manifest.

The folder holds `partitioned_randomly` and `partitioned_by_hospital`, each with `training_set` and `test_set` of the folders
`glaucoma` and `normal`. The first is read, whose 339 and 146 images the paper has (Table 13); name `partitioned_by_hospital` as
FOLDER for the other. Images of the third release are called after the patient and the eye, `r3_G-8-R.png`.

    python -m mgll.readers.rim_one FOLDER --out manifest.jsonl
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgll.manifest.records import Split
from mgll.readers.published_command import command_of
from mgll.readers.published_files import find, images_in
from mgll.readers.published_set import Download, Listed, PublishedSet

_SPLITS: tuple[tuple[Split, str], ...] = (("train", "training_set"), ("test", "test_set"))
_LABEL = "diagnosis of the folder"
_PATIENT = re.compile(r"(r3_[A-Z]+-\d+)-[LR]")


def _listed(folder: Path, notes: Counter[str]) -> Iterator[Listed]:
    for split, name in _SPLITS:
        for kind in ("glaucoma", "normal"):
            place = folder / name if (folder / name).is_dir() else find(folder, f"partitioned_randomly/{name}")
            for image in images_in(find(place, kind)):
                patient = _PATIENT.fullmatch(image.stem)
                yield Listed(image, {_LABEL: kind}, split, patient[1] if patient else "")


RIM_ONE = PublishedSet(
    Download(
        "RIM-ONE",
        "rim_one",
        "fundus photographs",
        "RIM-ONE_DL_images.zip at https://github.com/miag-ull/rim-one-dl",
        "research and education alone, no redistribution",
    ),
    _listed,
    labels=(_LABEL,),
    vocabulary=("rim_one",),
    validation=69 / 339,
)
main = command_of(RIM_ONE, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
