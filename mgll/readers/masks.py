"""Published sets of masks -> manifest and its side table of masks: REFUGE (optic disc and cup), IDRiD (lesions and disc).

    python -m mgll.readers.masks refuge FOLDER --out refuge.jsonl       # and refuge.masks.jsonl
    python -m mgll.readers.masks idrid FOLDER --out idrid.jsonl

FOLDER is the folder of the unpacked archives; folders between it and the images do not matter. REFUGE has the splits of its
challenge. IDRiD has none to choose by: a fifth of its training images, by a hash of their names, is split `val`. Neither names
patients.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mgll.formats import FormatError
from mgll.manifest.masks import Mask, masks_beside, write_masks
from mgll.manifest.records import Record, Split
from mgll.readers.splits import split_of_group
from mgll.readers.writing import Found, write_found
from mgll.vocabulary.label_texts import describe_labels

#: REFUGE's pictures are 0 in the cup, 128 in the rim and 255 outside the disc.
_REFUGE = {"optic disc": (0, 128), "optic cup": (0,)}
_REFUGE_SPLITS: dict[str, Split] = {"g": "train", "n": "train", "v": "val", "t": "test"}
#: The letters behind a name in IDRiD -> what is drawn.
_IDRID = {
    "MA": "microaneurysms",
    "HE": "haemorrhages",
    "EX": "hard exudates",
    "SE": "soft exudates",
    "OD": "optic disc",
}
_PICTURES = (".bmp", ".png", ".tif", ".tiff", ".jpg", ".jpeg")
Masked = tuple[list[Record], list[Mask], Counter[str]]


def read_refuge(folder: str | os.PathLike[str]) -> Masked:
    """Images, masks and notes of REFUGE: `g0001.jpg` and `n0001.jpg` to train, `V0001.jpg` to choose, `T0001.jpg` to read.

    Training images are labelled by their names: glaucoma or not.

    Raises:
        FormatError: if there is no image of such a name.
    """
    pictures = _pictures(folder, lambda path: path.stem[:1].lower() in _REFUGE_SPLITS and path.stem[1:].isdigit())
    drawn = {path.stem.lower(): path for path in pictures if path.suffix.lower() in (".bmp", ".png")}
    records, masks, notes = [], [], Counter[str]()
    for image in (path for path in pictures if path.suffix.lower() in (".jpg", ".jpeg")):
        if image.stem.lower() not in drawn:
            notes["left out: no mask of its name"] += 1
            continue
        kind = image.stem[0].lower()
        labels = {"g": ("Glaucoma",), "n": ("No Glaucoma",)}.get(kind, ())
        records.append(_record(image, _REFUGE_SPLITS[kind], "REFUGE", labels))
        mask = str(drawn[image.stem.lower()])
        masks += [Mask(image=str(image), label=label, mask=mask, values=values) for label, values in _REFUGE.items()]
    if not records:
        raise FormatError(
            folder, None, "no image g0001.jpg, n0001.jpg, V0001.jpg or T0001.jpg with a mask of its name (.bmp)"
        )
    return records, masks, notes


def read_idrid(folder: str | os.PathLike[str]) -> Masked:
    """Images, masks and notes of IDRiD's part `A. Segmentation`: `IDRiD_01.jpg`, `IDRiD_01_MA.tif` and so on.

    Images below a folder that ends in `Testing Set` are read. Where a lesion's picture is missing the image has none of it, as the
    data set says.

    Raises:
        FormatError: if there is no image of such a name.
    """
    pictures = _pictures(folder, lambda path: path.stem.startswith("IDRiD_"))
    drawn = {path.stem: path for path in pictures if path.stem.rpartition("_")[2] in _IDRID}
    images = [path for path in pictures if path.stem not in drawn and path.suffix.lower() in (".jpg", ".jpeg")]
    records, masks, notes = [], [], Counter[str]()
    for image in images:
        own = {code: drawn[name] for code in _IDRID if (name := f"{image.stem}_{code}") in drawn}
        if not own:
            notes["left out: no mask of its name"] += 1
            continue
        is_test = any(part.lower().endswith("testing set") for part in image.parts)
        split: Split = "test" if is_test else split_of_group(image.stem, 0, (0.8, 0.2, 0))
        records.append(_record(image, split, "IDRiD", ()))
        for code, label in _IDRID.items():
            if code not in own:
                notes[f"no picture of {label}: read as none in the image"] += 1
            masks.append(Mask(image=str(image), label=label, mask=str(own[code]) if code in own else None))
    if not records:
        raise FormatError(folder, None, "no image IDRiD_01.jpg with masks such as IDRiD_01_MA.tif")
    return records, masks, notes


READERS: dict[str, Callable[[str], Masked]] = {"refuge": read_refuge, "idrid": read_idrid}


def _pictures(folder: str | os.PathLike[str], wanted: Callable[[Path], bool]) -> list[Path]:
    found = (path.resolve() for path in Path(folder).rglob("*") if path.suffix.lower() in _PICTURES)
    return sorted(path for path in found if wanted(path))


def _record(image: Path, split: Split, source: str, labels: tuple[str, ...]) -> Record:
    texts = describe_labels(labels) if labels else {}
    return Record(image=str(image), split=split, group=image.stem, texts=texts, labels=labels, source=source)


def _stored(masks: Iterable[Mask], folder: Path) -> list[Mask]:
    """The masks with paths relative to the folder of their table where they lie below it."""

    def relative(path: str) -> str:
        return Path(path).relative_to(folder).as_posix() if Path(path).is_relative_to(folder) else path

    return [
        mask.model_copy(update={"image": relative(mask.image), "mask": relative(mask.mask) if mask.mask else None})
        for mask in masks
    ]


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 on success and 1 after an error that was explained."""
    parser = CommandParser(prog="python -m mgll.readers.masks", description=__doc__)
    parser.add_argument("layout", choices=list(READERS), help="data set whose masks are read")
    parser.add_argument("folder", help="where the data set was unpacked")
    parser.add_argument("--out", required=True, help="manifest to write; the masks go beside it")
    options = parser.parse_args(arguments)
    if not Path(options.folder).is_dir():
        raise FormatError(options.folder, None, "no such folder")
    records, masks, notes = READERS[options.layout](options.folder)

    def read() -> Found:
        return records, notes

    write_found(options.out, read, made_from=str(options.folder))
    beside = masks_beside(options.out)
    write_masks(beside, _stored(masks, Path(options.out).absolute().parent))
    counts = Counter(mask.label for mask in masks if mask.mask)
    print(f"{beside}: masks of {', '.join(f'{label} {count}' for label, count in counts.items())}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
