"""Ask a host, a graft or a fine-tuned model about an image.

python -m mllm_adapters.ask DIR --image eye.jpg "What does this fundus photograph show?"

From Python: `loaded = load(DIR)`, then `ask(loaded, "eye.jpg", "What ...?")`.
"""

import os
import sys
from typing import TYPE_CHECKING

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mgll.formats import check_there
from mgll.images.preprocessing import open_image
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.loading.load import check_model, load
from mllm_adapters.loading.options import USUAL, add_weight_options
from mllm_adapters.prompting.encoding import encode_prompts

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ask", "load"]


def ask(loaded: LoadedHost, image: "Image | str | os.PathLike[str]", question: str, max_new_tokens: int = 128) -> str:
    """Ask the model a question about an image; the answer is decoded greedily.

    Args:
        loaded: the model, from `load`.
        image: an RGB image or the path of an image file.
        question: the question alone; the conversation form of the model's family is put around it.
        max_new_tokens: length of the longest answer in tokens.

    Returns:
        The answer as text.

    Raises:
        ImageError: if the file cannot be read as an image.
    """
    # here, because torch takes seconds to import
    import torch

    from mllm_adapters.prompting.rows import replies

    opened = open_image(image) if isinstance(image, (str, os.PathLike)) else image
    with torch.inference_mode():
        return replies(loaded, [encode_prompts(loaded, opened, [loaded.host.prompt(question)])], max_new_tokens)[0][0]


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 on success and 1 after an error that was explained."""
    parser = CommandParser(prog="python -m mllm_adapters.ask", description=__doc__)
    parser.add_argument("directory", help="a host, a graft, or what fine-tuning wrote")
    parser.add_argument("question", help="the question alone; the model's own form of conversation is put around it")
    parser.add_argument("--image", required=True, help="image file")
    parser.add_argument("--device", default="cpu", help="torch device (default %(default)s)")
    add_weight_options(parser)
    parser.add_argument(
        "--max-new-tokens", type=int, default=128, help="longest answer, in tokens (default %(default)s)"
    )
    options = parser.parse_args(arguments)
    check_there(options.directory, options.image)
    check_model(options.directory)
    how = {name: getattr(options, name) for name in USUAL}
    loaded = load(options.directory, options.device, **how)
    if loaded.note:
        print(loaded.note, file=sys.stderr)
    print(ask(loaded, options.image, options.question, options.max_new_tokens))
    print("(research use only, not for diagnosis)", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
