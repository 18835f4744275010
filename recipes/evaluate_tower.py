r"""What are these towers worth alone? Any number of towers on any number of manifests, side by side.

    python recipes/evaluate_tower.py runs/mgll/mgll.ckpt runs/clip/mgll.ckpt --manifest fundus.jsonl
    python recipes/evaluate_tower.py clip=clip-0/mgll.ckpt clip=clip-1/mgll.ckpt mgll=mgll-0/mgll.ckpt mgll=mgll-1/mgll.ckpt \
        dinov2=hf:models/dinov2-small timm:resnet50 --manifest fundus.jsonl --manifest others.jsonl --image_size 126

`NAME=TOWER` names a method; towers of one name are its seeds, and both seeds and patients are then taken as random. A tower is a
file, `hf:FOLDER`, `LAYOUT:FILE` of a published encoder, or an encoder by name (`timm:NAME`, with `@FILE` for its weights). Features
are computed once; what is finished is not done again. Under `accelerate launch` several processes share the features. Ends with
leaderboard.html, .md and .tex, results.csv, classes.csv and a card for each method. Research use only, not for diagnosis.
"""

import argparse
import hashlib
import sys
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import get_args

from benchmark.leaderboard.content import build_board
from benchmark.leaderboard.pictures import Pictures
from benchmark.leaderboard.writing import write_board
from mgll.ending import ends_in_one_line
from mgll.evaluation.about import about_towers
from mgll.evaluation.embedding import Embedding, embed, load_embedding, save_embedding
from mgll.evaluation.evaluation import Evaluation, EvaluationSettings, evaluate
from mgll.evaluation.features import Precision, features_of
from mgll.evaluation.named_towers import NamedEncoders, find_tower
from mgll.evaluation.saving import load_evaluation, save_evaluation
from mgll.evaluation.towers import Tower
from mgll.manifest.image_identity import images_identity
from mgll.manifest.records import Records, read_manifest
from mgll.run_folder import locked
from mgll.stage import stage
from mgll.tower.curve import Curve, curve_of

#: Settings that change where features lie and how fast they come, not what is read.
_ASIDE = ("cache", "batch_size")


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Evaluate, compare and write."""
    options = _parser().parse_args(arguments)
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
    for tower in towers:
        for records in manifests.values():
            images = [record.image for record in records if record.labels]
            features_of(tower, images, settings.cache, settings.precision, settings.batch_size, together=True)
    with first_process() as is_first:
        if is_first:
            with locked(out):
                _compare(out, towers, manifests, settings)
    return 0


def _compare(out: Path, towers: list[Tower], manifests: dict[str, Records], settings: EvaluationSettings) -> None:
    runs: dict[str, dict[str, list[Evaluation]]] = {name: {} for name in manifests}
    seen = {(tower.name, tower.digest) for tower in towers}
    if len(seen) < len(towers):
        raise ValueError("a tower stands twice under one name: copies of a tower are no further seeds; name each once")
    for name, records in manifests.items():
        state = images_identity(records)
        for tower in towers:
            path = out / "evaluations" / f"{name}-{tower.digest[:16]}-{tower.pooling}.npz"
            own = {key: value for key, value in asdict(settings).items() if key not in _ASIDE}
            made_of = {"tower": tower.digest, "images": state, "records": _digest(records), "settings": own}
            stage(path, made_of, partial(_evaluate, tower, records, settings, path))
            runs[name].setdefault(tower.name, []).append(load_evaluation(path))
    pictures = Pictures(_embeddings(out, towers, manifests, settings), _curves(towers))
    page = write_board(out, build_board(runs), pictures, about_towers(towers))
    print(f"\n{(out / 'leaderboard.md').read_text(encoding='utf-8')}\npage: {page}")


def _evaluate(tower: Tower, records: Records, settings: EvaluationSettings, path: Path) -> None:
    print(f"{tower.name}: {path.name}", flush=True)
    save_evaluation(path, evaluate(tower, records, settings))


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("towers", nargs="+", metavar="TOWER", help="[NAME=]tower, see above")
    parser.add_argument("--manifest", action="append", required=True, help="manifest with official splits; repeatable")
    parser.add_argument("--out", default="runs/towers", help="folder of everything")
    parser.add_argument("--cache", help="folder of the features' cache; OUT/features if not given")
    parser.add_argument("--image_size", type=int, help="side in pixels for encoders that bring no tower file")
    parser.add_argument("--resize", default="squash", choices=["pad", "squash", "crop"], help="for the same")
    parser.add_argument("--pooling", choices=["cls", "mean", "head"], help="for the same")
    default = EvaluationSettings()
    parser.add_argument("--split", default=default.split, choices=["val", "test"], help="images that are read")
    parser.add_argument("--grades", default=default.grades, choices=["fold", "keep"], help="grades of a disease")
    for name, kind in (("min_train", int), ("min_read", int), ("neighbours", int), ("draws", int), ("rare", int)):
        parser.add_argument(f"--{name}", type=kind, default=getattr(default, name))
    for name in ("strengths", "shares"):
        parser.add_argument(f"--{name}", type=float, nargs="*", default=getattr(default, name))
    parser.add_argument("--leave_source_out", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--left_out_images", default=default.left_out_images, choices=["split", "all"])
    parser.add_argument("--zero_shot", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--text_encoder", help="folder of the towers' text encoder, where it has moved")
    parser.add_argument("--precision", default=default.precision, choices=get_args(Precision))
    parser.add_argument("--batch_size", type=int, default=default.batch_size)
    return parser


if __name__ == "__main__":
    sys.exit(main())
