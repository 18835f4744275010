"""Published vision encoders as tower files: the command."""

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mgll.published.conversion import SETTINGS, convert
from mgll.published.layouts import LAYOUTS


def list_layouts() -> str:
    """A list of the families of published encoders that can be read, one paragraph for each."""
    lines = []
    for name, layout in LAYOUTS.items():
        seen = "read in public code" if layout.seen else "UNVERIFIED, recalled or inferred"
        lines += [f"{name}: {layout.published}", f"    layout {seen}; licence: {layout.licence}", f"    {layout.note}"]
    return "\n".join(lines)


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = CommandParser(prog="python -m mgll.published", description=__doc__.split("\n")[0])
    parser.add_argument("source", nargs="?", help="published file or folder")
    parser.add_argument("--list", action="store_true", help="print the families that there are")
    parser.add_argument("--layout", choices=list(LAYOUTS), help="family of the file, see --list")
    parser.add_argument("--out", help="the tower file to write")
    for name in ("mean", "std"):
        parser.add_argument(
            f"--{name}",
            nargs=3,
            type=float,
            metavar=("R", "G", "B"),
            help=f"{name} of each channel, for pixel values in 0..1",
        )
    parser.add_argument("--resize", choices=["pad", "squash", "crop"], help="how an image becomes a square")
    parser.add_argument("--size", type=int, help="side of the image in pixels; position embeddings are interpolated")
    parser.add_argument("--pooling", choices=["cls", "mean", "head"], help="what stands for the whole image")
    parser.add_argument("--hidden-act", choices=["gelu", "quick_gelu"], help="activation of a CLIP ViT")
    parser.add_argument("--architecture", help="name in timm")
    parser.add_argument("--head-width", type=int, help="channels of an attention head")
    options = parser.parse_args(arguments)
    if options.list:
        print(list_layouts())
        return 0
    if not (options.source and options.layout and options.out):
        parser.error("name a file, --layout and --out, or ask for --list")
    settings = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
    done = convert(options.source, options.layout, options.out, **settings)
    tokens = done.header.geometry
    print(f"{options.out}: {tokens.grid} x {tokens.grid} tokens of {tokens.width} from {tokens.size} px")
    for pattern, count in done.left_out.items():
        print(f"left out: {count} like {pattern}")
    if done.from_file:
        print("as the file or those beside it say: " + ", ".join(f"{k} {v}" for k, v in done.from_file.items()))
    print(
        "not in the file, as the published code has it: " + ", ".join(f"{k} {v}" for k, v in done.from_layout.items())
    )
    print(f"note: {LAYOUTS[options.layout].note}\nlicence: {LAYOUTS[options.layout].licence}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
