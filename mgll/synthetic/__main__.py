"""Draw fundus images: `python -m mgll.synthetic --out DIR` a data set, `--contact-sheet FILE` a picture of every class."""

import argparse
import os

from mgll.ending import ends_in_one_line
from mgll.files import atomic_path
from mgll.flags import CommandParser
from mgll.vocabulary.diseases import benchmark_classes


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status, 0 if all went well."""
    parser = CommandParser(
        prog="python -m mgll.synthetic",
        description="Draw fundus images of the 25 benchmark classes, with a manifest. For research on methods only.",
    )
    parser.add_argument("--out", metavar="DIR", help="folder of the data set: images/ and manifest.jsonl")
    parser.add_argument("--count", type=int, default=2000, help="number of images (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default %(default)s)")
    parser.add_argument("--size", type=int, help="pixels a side (default 128; contact sheet 256)")
    parser.add_argument(
        "--power",
        type=float,
        default=0.25,
        help="1: class frequencies of the paper's Table 14, 0: equal (default 0.25)",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument("--masks", action="store_true", help="also write where optic disc and cup are")
    parser.add_argument("--contact-sheet", metavar="FILE", help="write a labelled picture (PNG or JPEG) of every class")
    parser.add_argument("--classes", nargs="+", metavar="CODE", help="classes on the contact sheet (default: all 25)")
    parser.add_argument("--columns", type=int, default=6, help="eyes of each class on it (default %(default)s)")
    options = parser.parse_args(arguments)
    if not options.out and not options.contact_sheet:
        parser.error("give --out DIR for a data set, --contact-sheet FILE for a picture, or both")
    _run(options)
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.contact_sheet:
        # here, because scipy takes a moment to import
        from mgll.synthetic.contact_sheet import contact_sheet

        codes = options.classes or [disease.code for disease in benchmark_classes()]
        sheet = contact_sheet(codes, options.columns, options.seed, options.size or 256)
        with atomic_path(options.contact_sheet) as path:
            sheet.save(path, format="JPEG" if options.contact_sheet.lower().endswith(("jpg", "jpeg")) else "PNG")
        print(options.contact_sheet)
    if options.out:
        from mgll.synthetic.dataset import generate

        size = options.size or 128
        print(
            generate(
                options.out,
                options.count,
                options.seed,
                size,
                power=options.power,
                workers=options.workers,
                masks=options.masks,
            )
        )


if __name__ == "__main__":
    raise SystemExit(main())
