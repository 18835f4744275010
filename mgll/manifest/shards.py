"""WebDataset shards: uncompressed tar files with an image and a JSON file per sample, and a manifest beside them.

Shards keep hundreds of thousands of small files off a shared file system, and may lie on several. The manifest names each image by
shard and byte offset (`mgll.images.files`), so training reads shards like single files: same order, same batches, same resuming,
on any number of processes. Other WebDataset tools read them too. Only `tarfile` is used: nothing is unpickled or run.

    python -m mgll.manifest.shards manifest.jsonl --out shards/
    python -m mgll.manifest.shards manifest.jsonl --out shards/ --longest-side 512

The second scales photographs down to that longest side on the way; the header of the manifest says so, and each file what it was
made of (`mgll.images.resized`).
"""

import argparse
import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from mgll.ending import ends_in_one_line
from mgll.files import sha256, write_text
from mgll.flags import CommandParser
from mgll.formats import FormatError
from mgll.images.files import TarMember
from mgll.machine_errors import stop_if_of_the_machine
from mgll.manifest.image_identity import image_file, image_states
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.manifest.shard_writing import IMAGE_ENDINGS, Scaling, shard_path, write_shards
from mgll.run_folder import claim_folder

TEXT_ENDINGS = {".json", ".txt"}
#: A JSON file may take a hundred and fifty times its size in memory when it is read.
MAX_TEXT_BYTES = 1_000_000
#: Bytes of all headers of one member: long names and the like take a few thousand.
MAX_HEADER_BYTES = 1 << 18
#: Characters of a member's name, and of what a kind of files is called; kinds that are counted.
MAX_NAME, MAX_KIND, MAX_KINDS = 4096, 40, 100


@dataclass
class Sample:
    """The files of a shard that share a key.

    Attributes:
        key: folder and name of the files, up to the first dot of the name.
        image: the first image among the files.
        texts: ending (`.json` or `.txt`) -> content of the file.
        ignored: what kinds of files are not read (`.pkl file` and `.pyd file` among them), and how many.
    """

    key: str
    image: TarMember | None = None
    texts: dict[str, bytes] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)


def pack(
    manifest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    images: int = 1000,
    seed: int = 0,
    scaling: Scaling | None = None,
    processes: int | None = None,
) -> Path:
    """Copy the images of a manifest into shards, in an order drawn by `seed`, and write `out/manifest.jsonl`.

    The same arguments and images give the same bytes. A run that was stopped continues with the first shard that is missing, and
    packs those anew whose images have changed since, by size or time; a line says how many.

    Args:
        manifest: any manifest; its images may lie in shards themselves.
        out: folder of the shards.
        images: number of images per shard.
        seed: seed of the order, which makes every shard a random sample of the whole.
        scaling: scales photographs down; a line then says how many, and the bytes before and after. None copies every byte.
        processes: at most so many write shards at once where photographs are scaled down; None for one a core.

    Returns:
        The path of the new manifest.

    Raises:
        FormatError: for a bad manifest.
        ImageError: for an image that is missing, or has an ending that shards do not hold.
        ValueError: if `out` holds shards that were made with other arguments, or other files.
    """
    out, records = Path(out), read_manifest(manifest)
    scaled = asdict(scaling) if scaling else None
    _claim(out, {"manifest_sha256": sha256(manifest), "images": images, "seed": seed, "scaling": scaled})
    order = np.random.default_rng(seed).permutation(len(records)).tolist()
    parts = [order[start : start + images] for start in range(0, len(order), images)]
    _remove_outdated(out, records, parts)
    tally = write_shards(out, records, parts, scaling, processes)
    said = {"scaling": scaled} if scaled else {}
    write_manifest(out / "manifest.jsonl", _placed(out, records, parts), made_from=str(manifest), **said)
    if scaling and (tally.resized or tally.kept or tally.damaged):
        print(tally.describe(scaling))
    return out / "manifest.jsonl"


def read_shard(path: str | os.PathLike[str]) -> Iterator[Sample]:
    """The samples of a shard: consecutive files with the same key.

    Whatever the shard holds, little of it is in memory at a time.

    Raises:
        FormatError: if the shard is missing, not an uncompressed tar file, or cut short, or asks for much memory.
        OSError: if the machine can't read it.
    """
    sample, end = Sample(""), 0
    if Path(path).exists() and not Path(path).is_file():
        raise FormatError(path, None, "not a plain file")
    try:
        # A second handle, because iterating moves the first.
        with _Headers(io.FileIO(path)) as headers, Path(path).open("rb") as file:
            with tarfile.open(fileobj=headers, mode="r:") as tar:
                while info := tar.next():
                    _check_member(info, tar)
                    headers.left = MAX_HEADER_BYTES
                    tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
                    end = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                    if not (info.isreg() or info.issym() or info.islnk()):  # a folder or a device
                        continue
                    folder, _, name = info.name.rpartition("/")
                    key = f"{folder}/{name.split('.')[0]}"
                    if sample.key != key:
                        if sample.key:
                            yield sample
                        sample = Sample(key)
                    _add(sample, info, str(path), file)
            if sample.key:
                yield sample
            file.seek(end)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise FormatError(path, None, "the shard is cut short: it does not end as a tar file does")
    except FileNotFoundError:
        raise FormatError(path, None, "no such shard") from None
    except RecursionError:
        raise FormatError(path, None, "not a tar file of samples (headers of headers of headers)") from None
    except FormatError:
        raise
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        stop_if_of_the_machine(error, path)
        raise FormatError(path, None, f"not a whole, uncompressed tar file ({error})") from None


class _Headers(io.BufferedReader):
    """A tar file of which no more is read for one member than headers take; `tarfile` itself reads what a header asks for."""

    left = MAX_HEADER_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self.left:
            raise tarfile.ReadError(f"the headers of a member take more than {MAX_HEADER_BYTES // 1024} KB")
        self.left -= size
        return super().read(size)


def _check_member(info: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
    """Refuse what makes `tarfile` go in circles or hold much memory.

    Raises:
        tarfile.ReadError: for a size below 0, a long name, or headers for all members that pile up.
    """
    if info.size < 0:
        raise tarfile.ReadError(f"a member of {info.size} bytes")
    if len(info.name) > MAX_NAME:
        raise tarfile.ReadError(f"a name of {len(info.name)} characters")
    if sum(len(name) + len(str(value)) for name, value in tar.pax_headers.items()) > MAX_HEADER_BYTES:
        raise tarfile.ReadError(f"headers for all members of more than {MAX_HEADER_BYTES // 1024} KB")


def _add(sample: Sample, info: tarfile.TarInfo, shard: str, file: io.BufferedReader) -> None:
    ending = PurePosixPath(info.name).suffix.lower()
    if not info.isreg() or info.issparse():
        sample.ignored["sparse file" if info.isreg() else "link"] += 1
    elif ending in IMAGE_ENDINGS and sample.image is None:
        sample.image = TarMember.at(shard, file, info.offset_data - tarfile.BLOCKSIZE)
    elif ending in TEXT_ENDINGS and ending not in sample.texts and info.size <= MAX_TEXT_BYTES:
        file.seek(info.offset_data)
        sample.texts[ending] = file.read(info.size)
    else:
        too_long = ending in TEXT_ENDINGS and info.size > MAX_TEXT_BYTES
        what = (
            f"{ending} file of more than {MAX_TEXT_BYTES // 1_000_000} MB" if too_long else f"{ending or 'other'} file"
        )
        known = what in sample.ignored or len(sample.ignored) < MAX_KINDS
        sample.ignored[what if known and len(what) <= MAX_KIND else "other file"] += 1


def _claim(out: Path, made_of: Mapping[str, object]) -> None:
    begun = (out / "shards.json").is_file()
    if not begun and out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; give another --out")
    claim_folder(out, "shards.json", made_of, begun, "shards made of something else")


def _remove_outdated(out: Path, records: Sequence[Record], parts: Sequence[Sequence[int]]) -> None:
    """Delete the shards that were packed from other files than are there now, and list the state of each image's file."""
    listed, states = out / "sources.txt", image_states(records)
    now = [states[image_file(record.image)] for record in records]
    before = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    outdated = [
        shard
        for number, indices in enumerate(parts)
        if (shard := shard_path(out, number)).is_file() and any(before[i : i + 1] != [now[i]] for i in indices)
    ]
    for shard in outdated:
        shard.unlink()
    if outdated:
        print(f"{len(outdated)} of {len(parts)} shards are packed anew, because images have changed since")
    write_text(listed, "".join(f"{state}\n" for state in now))


def _placed(out: Path, records: Sequence[Record], parts: Sequence[Sequence[int]]) -> Iterator[Record]:
    """The records with the new places of their images."""
    for number, indices in enumerate(parts):
        shard = shard_path(out, number)
        for index, sample in zip(indices, read_shard(shard), strict=True):
            if sample.image is None:
                raise FormatError(shard, None, f"sample {sample.key} has no image")
            yield records[index].model_copy(update={"image": str(replace(sample.image, shard=shard.name))})


def _scaling(parser: CommandParser, options: argparse.Namespace) -> Scaling | None:
    if options.longest_side is None:
        if options.quality is not None:
            parser.error("--quality is of photographs that are scaled down; name a --longest-side")
        return None
    if not 1 <= options.longest_side <= 65500:
        parser.error(f"--longest-side {options.longest_side}: a JPEG file has 1 to 65500 pixels along a side")
    quality = 92 if options.quality is None else options.quality
    if not 1 <= quality <= 95:
        parser.error(f"--quality {quality}: give 1 to 95")
    return Scaling(options.longest_side, quality)


@ends_in_one_line
def _main(arguments: list[str] | None = None) -> int:
    parser = CommandParser(prog="python -m mgll.manifest.shards", description=__doc__)
    parser.add_argument("manifest", help="the manifest to write as shards")
    parser.add_argument("--out", required=True, help="folder of the shards, which gets a manifest.jsonl")
    parser.add_argument("--images", type=int, default=1000, help="images a shard (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order of the images")
    parser.add_argument(
        "--longest-side", type=int, metavar="PX", help="scale photographs down to this longest side, in pixels"
    )
    parser.add_argument("--quality", type=int, help="JPEG quality of what is scaled down, 1 to 95 (default: 92)")
    options = parser.parse_args(arguments)
    print(pack(options.manifest, options.out, options.images, options.seed, _scaling(parser, options)))
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
