"""Letter scoring in four orders, side by side with one order and with lmms-eval's own LLaVA wrapper; memory over many cases.

    python tests/speed/letter_scoring.py [--cases 6]

A LLaVA of random weights whose images are 576 tokens, with a real tokenizer (the embedded text encoder's), in float32 on the CPU.
"""

import argparse
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "mllm_adapters"))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

from rows import Row, at_least, at_most, not_measured, shown

MEMORY = """
import resource, sys
from pathlib import Path
from benchmark.cases import read_cases
from benchmark.predictions.batches import Asking
from benchmark.predictions.scoring import score_cases
from benchmark.scorers.transformers_scorer import TransformersScorer

model, cases, count, out = sys.argv[1:]
asked = read_cases(cases)[: int(count)]
score_cases(asked, TransformersScorer(model), Path(out), Asking(rotations=4))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    one_quiet_thread()
    with tempfile.TemporaryDirectory() as folder:
        llava(Path(folder), options.cases, options.rounds)
        memory(Path(folder))


def one_quiet_thread() -> None:
    """Let nothing but the lines printed here appear, and one core do all work."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ["TQDM_DISABLE"] = "1"  # before transformers is imported
    import torch

    torch.set_num_threads(1)


def rows(count: int = 2, rounds: int = 1) -> Iterator[Row]:
    """Four orders against one, against what their tokens allow, and against lmms-eval's wrapper."""
    one_quiet_thread()
    with tempfile.TemporaryDirectory() as folder:
        directory = save_llava(Path(folder) / "llava")
        orders = FourOrders(directory, count)
        ratio = ratio_of(rounds, orders.score, orders.score_one)
        yield at_most("letter scoring in 4 orders", "in one order", ratio, 1.5)
        limit = "the limit: what is shared once, four ends"
        yield shown("letter scoring in 4 orders", limit, ratio / orders.bound, f"{orders.bound:.2f} x one order")
        work, against = "cases/s, letter scoring in 4 orders", "lmms-eval's llava_hf, a reply for each order"
        try:
            wrapper, _ = lmms_wrapper(directory, orders.asks)
        except ImportError as error:
            yield not_measured(work, against, f"not installed ({error})")
            return
        yield at_least(work, against, ratio_of(rounds, wrapper, orders.score), 5)


class FourOrders:
    """Questions in four orders of their options, and in the first alone, that a model is asked.

    Attributes:
        asks: the questions.
        whole: tokens of a prompt.
        shared: of these, those that all orders have in common and read once.
        bound: what four orders cost by tokens, of one.
        whole_prompts: whether orders share nothing.
    """

    def __init__(self, directory: Path, count: int) -> None:
        from benchmark.scorers.scorer import Ask
        from benchmark.scorers.transformers_scorer import TransformersScorer
        from benchmark.stats.rotations import as_asked
        from mllm_adapters.loading.load import load
        from mllm_adapters.prompting.encoding import encode_prompts

        options = ("Diabetic Retinopathy", "Age-related Macular Degeneration", "Media Haze", "Optic Disk Cupping")
        orders = tuple(as_asked(options, rotation) for rotation in range(4))
        self.asks = [Ask(noise(number), "What diagnosis is most likely?", orders) for number in range(count)]
        loaded = load(directory)
        self.whole_prompts = loaded.host.whole_prompts
        prompts = [loaded.host.prompt(text) for text in self.asks[0].texts]
        case = encode_prompts(loaded, self.asks[0].image, prompts)
        self.shared, self.whole = (0 if self.whole_prompts else case.shared), len(case.ids[0])
        self.bound = (self.shared + 4 * (self.whole - self.shared)) / self.whole
        self.scorer = TransformersScorer(directory)

    def score(self) -> object:
        return self.scorer.score(self.asks, ["letter"])

    def score_one(self) -> object:
        return self.scorer.score([ask._replace(orders=ask.orders[:1]) for ask in self.asks], ["letter"])


def llava(folder: Path, count: int, rounds: int) -> None:
    """Four orders against one, and against lmms-eval generating an answer for each order."""
    directory = save_llava(folder / "llava")
    orders = FourOrders(directory, count)
    ratio = ratio_of(rounds, orders.score, orders.score_one)
    whole, start = orders.whole, orders.shared
    print(f"LLaVA: prompts of {whole} tokens that share {start}; by tokens, 4 orders cost {orders.bound:.2f} x one")
    print(f"letter scoring, 4 orders / 1 order: {ratio:.2f} x the time (goal 1.5)")
    try:
        wrapper, _ = lmms_wrapper(directory, orders.asks)
    except ImportError as error:
        print(f"lmms-eval's LLaVA wrapper is not installed ({error}); not compared")
        return
    ratio = ratio_of(rounds, wrapper, orders.score)
    print(
        f"cases/s, letter scoring in 4 orders / lmms-eval's llava_hf, an answer for each order: {ratio:.1f} x (goal 5)"
    )


def memory(folder: Path) -> None:
    """Peak memory of a process that scores 2,233 cases, against one that scores 100; the tests' tiny LLaVA."""
    from tiny.any_host import save_tiny

    from benchmark.cases.building import build_cases
    from mgll.synthetic import generate

    manifest = generate(folder / "eyes", 160, 0, 64)
    build_cases(manifest, folder / "eyes" / "cases.jsonl", split=None, count=2233, min_images=2)
    directory = save_tiny("llava", folder / "asked-llava")
    peaks = []
    for count in (100, 2233):
        command = [
            sys.executable,
            "-c",
            MEMORY,
            directory,
            folder / "eyes" / "cases.jsonl",
            str(count),
            folder / str(count),
        ]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]))
    print(f"peak memory, 2,233 cases / 100 cases: {peaks[1] / peaks[0]:.3f} x (goal 1.1)")


def ratio_of(rounds: int, first: Callable[[], object], second: Callable[[], object]) -> float:
    """Median over the rounds of the ratio of processor time, the two taken in turn after one go of each.

    Seconds of a core, for other work on the machine hardly changes these.
    """
    first(), second()
    return statistics.median(processor_seconds(first) / processor_seconds(second) for _ in range(rounds))


def processor_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def noise(seed: int) -> object:
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (256, 256, 3), dtype=np.uint8))


#: Sizes of a LLaVA with which four orders can be scored in seconds on one core.
SMALL_TOWER = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 3}
SMALL_DECODER = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8, "num_attention_heads": 8}


def save_llava(
    directory: Path,
    tower: Mapping[str, int] = MappingProxyType(SMALL_TOWER),
    decoder: Mapping[str, int] = MappingProxyType(SMALL_DECODER),
    image_size: int = 336,
    dtype: str = "float32",
    device: str = "cpu",
) -> Path:
    """A LLaVA with patches of 14 pixels (24 x 24 image tokens) and the words of a real tokenizer, in shards of 2 GB.

    Its weights are drawn on `device` in `dtype`.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaImageProcessor,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    from mgll.encoders.text import embedded_text_encoder

    words = Tokenizer.from_file(str(embedded_text_encoder() / "tokenizer.json"))
    words.no_truncation()
    words.no_padding()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="[CLS]",
        eos_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        extra_special_tokens={"image_token": "<image>"},
    )
    text = {"vocab_size": len(tokenizer), **decoder}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**tower, image_size=image_size, patch_size=14),
        text_config=LlamaConfig(
            **text,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(image_size // 14) ** 2,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            model = LlavaForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(directory, max_shard_size="2GB")
    square = {"height": image_size, "width": image_size}
    LlavaProcessor(
        LlavaImageProcessor(size=square, do_center_crop=False, do_pad=True),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(directory)
    return directory


def lmms_wrapper(directory: Path, asks: list, new_tokens: int = 16) -> tuple[Callable[[], object], Any]:
    """lmms-eval's own LLaVA, asked for up to 16 new tokens for each order, as its multiple-choice tasks do; and its model."""
    from lmms_eval.api.instance import Instance
    from lmms_eval.models.simple.llava_hf import LlavaHf

    model = LlavaHf(pretrained=str(directory), device="cpu", device_map="cpu", batch_size=1)
    model.task_dict = {"eyes": {"test": asks}}

    def answer() -> object:
        requests = [
            Instance(
                request_type="generate_until",
                arguments=(
                    text,
                    {"max_new_tokens": new_tokens, "until": ["\n"]},
                    lambda ask: [ask.image],
                    number,
                    "eyes",
                    "test",
                ),
                idx=0,
                metadata={"task": "eyes", "doc_id": number, "repeats": 1},
            )
            for number, ask in enumerate(asks)
            for text in ask.texts
        ]
        return model.generate_until(requests)

    return answer, model.model


if __name__ == "__main__":
    main()
