"""Published sets of masks -> manifest and its side table of masks: REFUGE (optic disc and cup), IDRiD (lesions), QaTa-COV19.

    python -m mgll.readers.masks refuge FOLDER --out refuge.jsonl       # and refuge.masks.jsonl
    python -m mgll.readers.masks idrid FOLDER --out idrid.jsonl
    python -m mgll.readers.masks qata FOLDER --out qata.jsonl           # the paper's Table 25

FOLDER is the folder of the unpacked archives; folders between it and the images do not matter. Splits are official. Where none is
there to choose by, a fifth of the training patients, by a hash of their names, is split `val`; so in IDRiD, and in QaTa-COV19
without the lists of its texts' authors. REFUGE and IDRiD name no patients.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mgll.formats import FormatError
from mgll.manifest.masks import Mask, masks_beside, write_masks
from mgll.manifest.records import Record, Split
from mgll.readers.splits import NAMES, split_of_group
from mgll.readers.tables import read_table
from mgll.readers.writing import Found, write_found
from mgll.vocabulary.label_texts import DISEASE, REPORT, describe_labels

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
#: Folders of images and of masks, as published and as the authors of QaTa-COV19's texts have them.
_QATA_IMAGES, _QATA_MASKS, _QATA = ("Images", "img"), ("Ground-truths", "labelcol"), "COVID-19 infection"
#: Patient in the names of those of its images that come from BIMCV-COVID19+.
_BIMCV = re.compile(r"sub-S\d+")
_VALIDATION = (0.8, 0.2, 0.0)
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
        split: Split = "test" if is_test else split_of_group(image.stem, 0, _VALIDATION)
        records.append(_record(image, split, "IDRiD", ()))
        for code, label in _IDRID.items():
            if code not in own:
                notes[f"no picture of {label}: read as none in the image"] += 1
            masks.append(Mask(image=str(image), label=label, mask=str(own[code]) if code in own else None))
    if not records:
        raise FormatError(folder, None, "no image IDRiD_01.jpg with masks such as IDRiD_01_MA.tif")
    return records, masks, notes


def read_qata(folder: str | os.PathLike[str]) -> Masked:
    """Images, masks and notes of QaTa-COV19: `Images/NAME.png` and `Ground-truths/mask_NAME.png` of `Train Set` and `Test Set`.

    The texts of LViT's authors are read where `*_text*.xlsx` (or `.csv`) with the columns `Image` and `Description` is there, and
    so is their validation split, `Val_ID.xlsx`; their own arrangement too (`Train_Folder/img`, `labelcol`). A patient is known from
    the names of BIMCV's images alone; one who stands in several splits is a group in each.

    Raises:
        FormatError: if there is no such image, or an image has two descriptions.
    """
    pictures = [path for path in _pictures(folder, lambda path: True) if _qata_split(path)]
    drawn = {(_qata_split(path), _qata_name(path.name)): path for path in pictures if path.parent.name in _QATA_MASKS}
    said, choosing = _qata_tables(Path(folder))
    records, masks, notes, splits = [], [], Counter[str](), defaultdict[str, set[Split]](set)
    for image in (path for path in pictures if path.parent.name in _QATA_IMAGES):
        name, official = _qata_name(image.name), _qata_split(image)
        mask = drawn.get((official, name))
        if official is None or mask is None:
            notes["left out: no mask of its name"] += 1
            continue
        patient = found[0] if (found := _BIMCV.match(name)) else name
        split: Split = official
        if official == "train" and choosing:
            split = "val" if name in choosing else "train"
        elif official == "train":
            split = split_of_group(patient, 0, _VALIDATION)
        splits[patient].add(split)
        texts: dict[str, tuple[str, ...]] = {DISEASE: ("COVID-19",)}
        if name in said:
            texts[REPORT] = (said[name],)
        if said and name not in said:
            notes["without a description"] += 1
        records.append(Record(image=str(image), split=split, group=patient, texts=texts, source="QaTa-COV19"))
        masks.append(Mask(image=str(image), label=_QATA, mask=str(mask)))
    if not records:
        raise FormatError(
            folder,
            None,
            "no image in a folder Images (or img) of Train Set and Test Set with a mask in Ground-truths beside it",
        )
    if not said:
        notes["no table of texts (*_text*.xlsx) is there: the disease alone is said"] = len(records)
    apart = {patient for patient, own in splits.items() if len(own) > 1}
    notes["its patient is in several official splits, which are kept: a group in each"] = sum(
        r.group in apart for r in records
    )
    grouped = [
        record.model_copy(update={"group": f"{record.group} in {record.split}"}) if record.group in apart else record
        for record in records
    ]
    return grouped, masks, +notes


def _qata_split(picture: Path) -> Split | None:
    """The split that the folder around a folder of pictures is called after: `Train Set`, `Val_Folder`."""
    return NAMES.get(re.split(r"[ _]", picture.parent.parent.name.lower())[0])


def _qata_name(entry: str) -> str:
    """An image's name as its file, its mask and all tables have it in common."""
    return entry.removeprefix("mask_").removesuffix(".png")


def _qata_tables(folder: Path) -> tuple[dict[str, str], set[str]]:
    """Description of each image that has one, and the images by which settings are chosen."""
    said, choosing = dict[str, str](), set[str]()
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".xlsx", ".csv")):
        if "_text" in path.stem.lower():
            for number, row in read_table(path, ("Image", "Description")):
                name, text = _qata_name(row["Image"]), row["Description"]
                if said.setdefault(name, text) != text:
                    raise FormatError(path, number, f"{name} has another description above or in another table")
        elif path.stem.lower() == "val_id":
            choosing |= {_qata_name(row["Image"]) for _, row in read_table(path, ("Image",))}
    return {name: text for name, text in said.items() if text}, choosing


READERS: dict[str, Callable[[str], Masked]] = {"refuge": read_refuge, "idrid": read_idrid, "qata": read_qata}


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
