r"""Where do these towers look? Maps of several towers over the same photographs, side by side (the paper's Figures 4 and 6).

    python recipes/tower_maps.py clip=runs/clip/mgll.ckpt mgll=runs/mgll/mgll.ckpt --manifest fundus.jsonl --class Glaucoma
    python recipes/tower_maps.py runs/clip/mgll.ckpt runs/mgll/mgll.ckpt --manifest fundus.jsonl --images 8 --score text

Grad-CAM (captum), attention rollout and text similarity; a tower that has no such map is named with the reason. Towers are named
as for `recipes/evaluate_tower.py`. Photographs are drawn by a seed from the split that is read, so that nobody chooses the
beautiful ones. Ends with OUT/maps.html, which loads nothing, and OUT/maps.png. Research use only, not for diagnosis.
"""

import sys
from pathlib import Path
from typing import get_args

from benchmark.maps.content import Score, chosen_images, map_images
from mgll.ending import ends_in_one_line
from mgll.evaluation.features import Precision
from mgll.evaluation.named_towers import NamedEncoders, add_tower_arguments, check_names, find_tower
from mgll.evaluation.settings import EvaluationSettings, add_probe_arguments, probe_settings
from mgll.flags import CommandParser
from mgll.manifest.records import read_manifest
from mgll.run_folder import locked

_EXPLAINED = {
    "probe": "of a linear probe of the class, fitted on the tower's frozen features of the training images.",
    "text": "the cosine of the image with the mean of the class's texts, in the space that the tower was trained in.",
}


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Draw photographs, map and write."""
    options = _parser().parse_args(arguments)
    check_names(options.towers)
    out = Path(options.out)
    settings = EvaluationSettings(
        cache=options.cache or str(out / "features"),
        split=options.split,
        grades=options.grades,
        **probe_settings(options),
        text_encoder=options.text_encoder,
        precision=options.precision,
    )
    records = read_manifest(options.manifest)
    images = chosen_images(records, options.classes, options.images, options.score, settings, options.seed)
    with locked(out):
        encoders = NamedEncoders(options.image_size, options.resize, options.pooling)
        towers = [find_tower(said, out / "towers", encoders) for said in options.towers]
        if len({tower.name for tower in towers}) < len(towers):
            raise ValueError("two towers have one name; tell them apart by NAME=TOWER")
        # here, because pandas takes a second to import
        from benchmark.maps.writing import write_maps

        found = map_images(towers, images, records, options.score, settings)
        print(f"page: {write_maps(out, found, _EXPLAINED[options.score])}")
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(description=__doc__)
    add_tower_arguments(parser)
    parser.add_argument("--manifest", required=True, help="manifest with official splits")
    parser.add_argument("--out", default="runs/maps", help="folder of everything")
    parser.add_argument("--images", type=int, default=3, help="photographs of each class")
    parser.add_argument(
        "--class",
        dest="classes",
        action="append",
        default=[],
        metavar="CODE",
        help="repeatable; every class that can be explained if not given",
    )
    parser.add_argument("--score", default="probe", choices=get_args(Score), help="what the Grad-CAM explains")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of photographs")
    parser.add_argument("--cache", help="folder of the features' cache; OUT/features if not given")
    default = EvaluationSettings()
    parser.add_argument("--split", default=default.split, choices=["val", "test"], help="photographs are drawn from it")
    parser.add_argument("--grades", default=default.grades, choices=["fold", "keep"], help="grades of a disease")
    add_probe_arguments(parser)
    parser.add_argument("--text-encoder", help="folder of the towers' text encoder, where it has moved")
    parser.add_argument("--precision", default=default.precision, choices=get_args(Precision), help="of the features")
    return parser


if __name__ == "__main__":
    sys.exit(main())
