r"""How well do these towers' frozen grids draw? A light decoder on each, Dice and IoU of every structure (the paper's Table 25).

    python -m mgll.readers.masks refuge FOLDER --out refuge.jsonl      # optic disc and cup; `idrid` for lesions
    python recipes/segment.py clip=runs/clip/mgll.ckpt mgll=runs/mgll/mgll.ckpt --manifest refuge.jsonl
    python recipes/segment.py mgll=runs/m0/mgll.ckpt mgll=runs/m1/mgll.ckpt --manifest refuge.jsonl --texts

Masks lie beside the manifest (`refuge.masks.jsonl`, docs/formats.md). `--texts` reads every tower that brings its text side once
more, with what its texts say of each place. Towers are named as for `recipes/evaluate_tower.py`; towers of one name are its seeds.
What is finished is not done again, and a killed decoder goes on after its last epoch. Ends with segmentation.md and .csv. Research
use only, not for diagnosis.
"""

import hashlib
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from mgll.ending import ends_in_one_line
from mgll.evaluation.drawn_areas import Segmentation
from mgll.evaluation.features import Precision
from mgll.evaluation.named_towers import (
    NamedEncoders,
    add_tower_arguments,
    check_names,
    find_tower,
    refuse_copies,
)
from mgll.evaluation.saving import load_segmentation, save_segmentation
from mgll.evaluation.towers import Tower
from mgll.files import sha256, write_text
from mgll.flags import CommandParser
from mgll.manifest.image_identity import images_identity
from mgll.manifest.masks import Mask, masks_beside, read_masks
from mgll.manifest.records import Records, read_manifest
from mgll.run_folder import locked
from mgll.stage import begin_stage, drop_stage, stage
from mgll.tower.file import read_header


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Train the decoders, measure and write."""
    options = _parser().parse_args(arguments)
    check_names(options.towers)
    out, records = Path(options.out), read_manifest(options.manifest)
    table = Path(options.masks) if options.masks else masks_beside(options.manifest)
    masks = read_masks(table)
    pictures = sorted({mask.mask for own in masks.values() for mask in own.values() if mask.mask})
    drawn = hashlib.sha256("".join(sha256(path) for path in pictures if Path(path).is_file()).encode()).hexdigest()
    of = {"manifest": Path(options.manifest), "masks": table, "images": images_identity(records), "pictures": drawn}
    of |= {"split": options.split, "epochs": options.epochs}
    of |= {"precision": options.precision} if options.precision != "auto" else {}
    how = {"cache": options.cache or str(out / "features"), "split": options.split, "epochs": options.epochs}
    how |= {"text_encoder": options.text_encoder, "precision": options.precision}
    methods: dict[str, list[Segmentation]] = {}
    with locked(out):
        encoders = NamedEncoders(options.image_size, options.resize, options.pooling)
        towers = [find_tower(said, out / "towers", encoders) for said in options.towers]
        refuse_copies(towers)
        for tower in towers:
            for texts in (False, True) if options.texts else (False,):
                if texts and (tower.path is None or read_header(tower.path).text_side is None):
                    print(f"{tower.name} brings no text side, and is read without texts only", flush=True)
                    continue
                path = out / "segmentations" / f"{tower.digest[:16]}{'-texts' if texts else ''}.npz"
                begun = path.with_suffix(".begun")  # the decoder's epochs; goes when what it drew is kept
                made_of = {**of, "tower": tower.digest, "texts": texts}
                draw = partial(_segment, path, begun, made_of, tower, records, masks, texts=texts, **how)
                stage(path, made_of, draw)
                drop_stage(begun)
                found = load_segmentation(path)
                print(f"{tower.name}{', with texts' if texts else ''}: {found.said}", flush=True)
                methods.setdefault(f"{tower.name}, with texts" if texts else tower.name, []).append(found)
        # here, because pandas takes a second to import
        from benchmark.report.frames import write_table
        from benchmark.segmentation import markdown, segmentation_frame, sentences

        frame = segmentation_frame(methods)
        structures = sorted({label for own in masks.values() for label in own})
        told = markdown(frame, sentences(methods, structures, options.split))
        write_table(out / "segmentation", frame)
        write_text(out / "segmentation.md", told)
    print(f"\n{told}")
    return 0


def _segment(
    path: Path,
    begun: Path,
    made_of: Mapping[str, Any],
    tower: Tower,
    records: Records,
    masks: dict[str, dict[str, Mask]],
    **how: Any,
) -> None:
    # here, because torch takes seconds to import
    from mgll.evaluation.segmentation import segment

    begin_stage(begun, made_of)  # drops what was begun with other settings, images or masks
    save_segmentation(path, segment(tower, records, masks, begun=begun, **how))


def _parser() -> CommandParser:
    parser = CommandParser(description=__doc__)
    add_tower_arguments(parser)
    parser.add_argument("--manifest", required=True, help="manifest with official splits")
    parser.add_argument("--masks", help="table of its masks; NAME.masks.jsonl beside it if not given")
    parser.add_argument("--out", default="runs/segmentation", help="folder of everything")
    parser.add_argument("--texts", action="store_true", help="also with what the texts say of each place")
    parser.add_argument("--split", default="test", choices=["val", "test"], help="images that are measured")
    parser.add_argument("--epochs", type=int, default=100, help="most epochs of a decoder; validation ends it earlier")
    parser.add_argument("--cache", help="folder of the features' cache; OUT/features if not given")
    parser.add_argument("--text-encoder", help="folder of the towers' text encoder, where it has moved")
    parser.add_argument("--precision", default="auto", choices=get_args(Precision), help="of the features")
    return parser


if __name__ == "__main__":
    sys.exit(main())
