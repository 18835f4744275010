r"""What are these towers worth alone? Any number of towers on any number of manifests, side by side.

    python recipes/evaluate_tower.py runs/mgll/mgll.ckpt runs/clip/mgll.ckpt --manifest fundus.jsonl
    python recipes/evaluate_tower.py clip=clip-0/mgll.ckpt clip=clip-1/mgll.ckpt mgll=mgll-0/mgll.ckpt mgll=mgll-1/mgll.ckpt \
        dinov2=hf:models/dinov2-small timm:resnet50 --manifest fundus.jsonl --manifest others.jsonl --image-size 126

`NAME=TOWER` names a method; towers of one name are its seeds, and both seeds and patients are then taken as random. A tower is a
file, `hf:FOLDER`, `LAYOUT:FILE` of a published encoder, or an encoder by name (`timm:NAME`, with `@FILE` for its weights). Features
are computed once; what is finished is not done again. Under `accelerate launch` several processes share the features. Ends with
leaderboard.html, .md, .tex and .xlsx, results.csv, classes.csv, figures/ and a card for each method. Research use only, not for
diagnosis.
"""

import argparse
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, get_args

from mgll.ending import ends_in_one_line
from mgll.evaluation.about import about_towers
from mgll.evaluation.embedding import Embedding, embed, load_embedding, save_embedding
from mgll.evaluation.evaluation import Evaluation, evaluate
from mgll.evaluation.features import Precision, features_of, grids_of
from mgll.evaluation.named_towers import (
    NamedEncoders,
    add_tower_arguments,
    check_names,
    find_tower,
    refuse_copies,
)
from mgll.evaluation.saving import load_evaluation, save_evaluation
from mgll.evaluation.settings import Blocks, EvaluationSettings
from mgll.evaluation.towers import Tower
from mgll.flags import CommandParser, hyphens
from mgll.images.preprocessing import Decode
from mgll.manifest.image_identity import images_identity
from mgll.manifest.records import Records, read_manifest
from mgll.progress import overall
from mgll.run_folder import locked
from mgll.stage import begin_stage, drop_stage, stage
from mgll.tower.curve import Curve, curve_of


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Evaluate, compare and write."""
    options = _parser().parse_args(arguments)
    check_names(options.towers)
    out = Path(options.out)
    chosen = {field.name: getattr(options, field.name) for field in fields(EvaluationSettings)}
    settings = EvaluationSettings(**{**chosen, "cache": options.cache or str(out / "features")})
    encoders = NamedEncoders(options.image_size, options.resize, options.pooling)
    manifests = {_called(path): read_manifest(path) for path in options.manifest}
    if len(manifests) < len(options.manifest):
        raise ValueError(f"two manifests are called alike ({', '.join(map(_called, options.manifest))}); rename one")
    # here, because torch takes seconds to import
    from mgll.training.distributed import first_process

    with first_process() as is_first:
        if is_first:
            found = [find_tower(said, out / "towers", encoders) for said in options.towers]
    towers = found if is_first else [find_tower(said, out / "towers", encoders) for said in options.towers]
    refuse_copies(towers)
    towers = [tower.decoding(settings.decode) for tower in towers]
    for tower in towers:
        for records in manifests.values():
            images = [record.image for record in records if record.labels]
            for outputs in (features_of, grids_of) if settings.attentive else (features_of,):
                outputs(tower, images, settings.cache, settings.precision, settings.batch_size, together=True)
    with first_process() as is_first:
        if is_first:
            with locked(out):
                _compare(out, towers, manifests, settings)
    return 0


def _compare(out: Path, towers: list[Tower], manifests: dict[str, Records], settings: EvaluationSettings) -> None:
    runs: dict[str, dict[str, list[Evaluation]]] = {name: {} for name in manifests}
    say = overall(len(manifests) * len(towers))
    for name, records in manifests.items():
        state = images_identity(records)
        for tower in towers:
            say(f"{name}: {tower.name}")
            path = out / "evaluations" / f"{name}-{tower.digest[:16]}-{tower.pooling}.npz"
            made_of = {
                "tower": tower.digest,
                "images": state,
                "records": _digest(records),
                "settings": settings.identity(),
            }
            begun = path.with_suffix(".begun")  # epochs of what is trained; goes when the readings are kept
            stage(path, made_of, partial(_evaluate, tower, records, settings, path, begun, made_of))
            drop_stage(begun)
            runs[name].setdefault(tower.name, []).append(load_evaluation(path))
    # here, because pandas takes a second to import
    from benchmark.leaderboard.content import build_board
    from benchmark.leaderboard.pictures import Pictures
    from benchmark.leaderboard.writing import write_board

    pictures = Pictures(_embeddings(out, towers, manifests, settings), _curves(towers))
    board = build_board(runs, {name: records.table for name, records in manifests.items()})
    page = write_board(out, board, pictures, about_towers(towers))
    print(f"\n{(out / 'leaderboard.md').read_text(encoding='utf-8')}\npage: {page}")


def _evaluate(
    tower: Tower, records: Records, settings: EvaluationSettings, path: Path, begun: Path, made_of: Mapping[str, Any]
) -> None:
    begin_stage(begun, made_of)  # drops what was begun with other settings or images
    save_evaluation(path, evaluate(tower, records, settings, begun))


def _embeddings(
    out: Path, towers: list[Tower], manifests: dict[str, Records], settings: EvaluationSettings
) -> dict[str, dict[str, Embedding]]:
    """Manifest -> method -> where images lie under its first tower; drawn once."""
    found: dict[str, dict[str, Embedding]] = {name: {} for name in manifests}
    for name, records in manifests.items():
        for tower in towers:
            if tower.name in found[name]:
                continue
            path = out / "embeddings" / f"{name}-{tower.digest[:16]}-{tower.pooling}.npz"
            made_of = {"tower": tower.digest, "images": images_identity(records), "records": _digest(records)}
            made_of |= {"split": settings.split, "grades": settings.grades, "precision": settings.precision}
            made_of |= {"decode": settings.decode} if settings.decode else {}
            stage(
                path,
                made_of,
                partial(_embed, tower, records, settings, path),
            )
            found[name][tower.name] = load_embedding(path)
    return found


def _embed(tower: Tower, records: Records, settings: EvaluationSettings, path: Path) -> None:
    save_embedding(path, embed(tower, records, settings))


def _curves(towers: list[Tower]) -> dict[str, list[Curve]]:
    """Method -> the training curves that travel with its towers."""
    found: dict[str, list[Curve]] = {}
    for tower in towers:
        if tower.path and (curve := curve_of(tower.path)):
            found.setdefault(tower.name, []).append(curve)
    return found


def _digest(records: Records) -> str:
    said = "\n".join(record.model_dump_json() for record in records)
    return hashlib.sha256(said.encode()).hexdigest()


def _called(manifest: str) -> str:
    """A manifest's name: that of its file, or of its folder where the file is called `manifest`."""
    path = Path(manifest)
    return path.parent.name if path.stem == "manifest" and path.parent.name else path.stem


def _blocks(said: str) -> Blocks:
    if said != "full" and not (said.isdecimal() and int(said)):
        raise argparse.ArgumentTypeError(f"{said!r}: give a number of blocks, 1 or more, or `full`")
    return "full" if said == "full" else int(said)


def _parser() -> CommandParser:
    parser = CommandParser(description=__doc__)
    add_tower_arguments(parser)
    parser.add_argument("--manifest", action="append", required=True, help="manifest with official splits; repeatable")
    parser.add_argument("--out", default="runs/towers", help="folder of everything")
    parser.add_argument("--cache", help="folder of the features' cache; OUT/features if not given")
    default = EvaluationSettings()
    parser.add_argument("--split", default=default.split, choices=["val", "test"], help="images that are read")
    parser.add_argument("--grades", default=default.grades, choices=["fold", "keep"], help="grades of a disease")
    numbers = {
        "min_train": (int, "training images that a class must have"),
        "min_read": (int, "images of the split that a class must have"),
        "neighbours": (int, "neighbours of the nearest-neighbour reading"),
        "draws": (int, "draws of the few-labels reading and of the intervals"),
        "rare": (int, "a class with fewer training images is rare"),
    }
    for name, (kind, meaning) in numbers.items():
        shown = f"{meaning} (default %(default)s)"
        parser.add_argument(f"--{hyphens(name)}", type=kind, default=getattr(default, name), help=shown)
    for name, meaning in {"strengths": "grid of the probe's C", "shares": "shares of the labels to learn from"}.items():
        shown = f"{meaning} (default %(default)s)"
        parser.add_argument(f"--{name}", type=float, nargs="*", default=getattr(default, name), help=shown)
    yes_or_no: dict[str, Any] = {"action": argparse.BooleanOptionalAction, "default": True}
    parser.add_argument("--leave-source-out", **yes_or_no, help="read each source by a probe that never saw it")
    parser.add_argument(
        "--left-out-images",
        default=default.left_out_images,
        choices=["split", "all"],
        help="images of the left-out source that are read (default %(default)s)",
    )
    parser.add_argument("--zero-shot", **yes_or_no, help="read towers that have a text side without any training")
    parser.add_argument("--attentive", action="store_true", help="also an attentive probe (keeps grids in the cache)")
    parser.add_argument(
        "--fine-tune", nargs="*", type=_blocks, default=(), metavar="N", help="also tune the last N blocks, or `full`"
    )
    epochs = "most epochs of each fine-tuning (default %(default)s)"
    parser.add_argument("--fine-tune-epochs", type=int, default=default.fine_tune_epochs, help=epochs)
    parser.add_argument("--prompt-learning", action="store_true", help="also CoOp and KgCoOp with few labels")
    parser.add_argument("--text-encoder", help="folder of the towers' text encoder, where it has moved")
    precision = "numbers in which features are computed (default %(default)s)"
    parser.add_argument("--precision", default=default.precision, choices=get_args(Precision), help=precision)
    decode = "how much of a large JPEG file is decoded (default: as each tower was trained)"
    parser.add_argument("--decode", choices=get_args(Decode), help=decode)
    parser.add_argument(
        "--batch-size", type=int, default=default.batch_size, help="images at once (default %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
