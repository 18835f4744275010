"""Grafting by surgery, side by side with loading, replacing and saving; on a checkpoint of a 7B LLaVA's shape.

    python tests/speed/grafting.py [--layers 32] [--folder DIR]

Needs 45 GB of disk and, for the way through transformers, as much memory as the model has bytes (14 GB); fewer --layers need less.
Weights are zeros. Each way runs in a process of its own; memory is that process's peak.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

from rows import Row, say, shown

HOST = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from mllm_adapters.demo.decoder import build_tokenizer

out, layers, mixed = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "mixed"
vision = CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
                          patch_size=14, projection_dim=768)
tokenizer = build_tokenizer()
config = LlavaConfig(vision_config=vision, text_config=LlamaConfig(num_hidden_layers=layers, vocab_size=32064), dtype="bfloat16",
                     image_token_index=tokenizer.convert_tokens_to_ids("<image>"))
with torch.device("meta"):
    shapes = {name: tensor.shape for name, tensor in LlavaForConditionalGeneration(config).state_dict().items()}
def legacy(name):  # the names of llava-hf's files
    for new, old in (("model.language_model.", "language_model.model."), ("model.vision_tower.", "vision_tower.vision_model."),
                     ("model.multi_modal_projector.", "multi_modal_projector."), ("lm_head.", "language_model.lm_head.")):
        if name.startswith(new):
            return old + name[len(new):]
    return name
names = sorted(shapes, key=lambda name: ("vision_tower" not in name, name))
towers = [name for name in names if "vision_tower" in name]
others = names[len(towers):]
third = len(others) // 3
groups = [others[:third], others[third:2 * third], others[2 * third:]]
groups = [towers + groups[0], *groups[1:]] if mixed else [towers, *groups]
out.mkdir()
weight_map = {}
for i, group in enumerate(groups):
    shard = f"model-{i + 1:05}-of-{len(groups):05}.safetensors"
    save_file({legacy(name): torch.zeros(shapes[name], dtype=torch.bfloat16) for name in group}, out / shard, {"format": "pt"})
    weight_map |= {legacy(name): shard for name in group}
(out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
config.save_pretrained(out)
(out / "processor_config.json").write_text(json.dumps({"processor_class": "LlavaProcessor", "patch_size": 14,
    "image_token": "<image>", "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}))
(out / "preprocessor_config.json").write_text(json.dumps({"crop_size": {"height": 336, "width": 336}, "do_center_crop": True,
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": {"shortest_edge": 336}}))
tokenizer.save_pretrained(out)
"""

TOWER = """
import sys
from transformers import CLIPVisionConfig, CLIPVisionModel
from mgll.images.preprocessing import Preprocessing
from mgll.tower import save_tower
vision = CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=224,
                          patch_size=14)
save_tower(sys.argv[1], CLIPVisionModel(vision).bfloat16(), Preprocessing(size=224))
"""

SURGERY = "import sys; from mllm_adapters.swap import main; sys.exit(main(['--model', 'llava', '--checkpoint', *sys.argv[1:]]))"

TRANSFORMERS = """
import sys
from transformers import LlavaForConditionalGeneration
from mgll.tower import load_tower
host, _, tower, _, out = sys.argv[1:]
model = LlavaForConditionalGeneration.from_pretrained(host)
donor, _ = load_tower(tower)
model.model.vision_tower = donor.to(model.dtype)
model.config.vision_config = donor.config
model.config.image_seq_length = 256
model.save_pretrained(out)
"""


def main() -> None:
    """Build, run both ways, print rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32, help="of the language model; 32 make a 7B")
    parser.add_argument("--folder", help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    say(rows(options.layers, options.folder))


def rows(layers: int = 2, parent: str | None = None) -> Iterator[Row]:
    """Time, peak memory and bytes of both ways; by default of a model with two layers only."""
    with tempfile.TemporaryDirectory(dir=parent) as temporary:
        yield from compare(Path(temporary), layers)


def compare(folder: Path, layers: int) -> Iterator[Row]:
    """Ratios of both ways, and to copying the bytes that have to be written."""
    tower, mixed, apart = folder / "mgll.ckpt", folder / "mixed", folder / "apart"
    run(TOWER, tower)
    run(HOST, mixed, layers, "mixed")
    size = sum(path.stat().st_size for path in mixed.glob("*.safetensors"))
    host = f"host of {size / 1e9:.1f} GB, tower of {tower.stat().st_size / 1e9:.2f} GB"
    os.sync()
    bare = run("import torch")
    run(
        SURGERY, mixed, "--encoder", tower, "--out", folder / "warm-up"
    )  # both ways find the files in the cache, if they fit
    shutil.rmtree(folder / "warm-up")
    surgery = run(SURGERY, mixed, "--encoder", tower, "--out", folder / "graft")
    shutil.rmtree(folder / "graft")
    os.sync()
    started = time.perf_counter()
    shutil.copyfile(tower, folder / "tower-copy")
    subprocess.run(
        ["cp", "--reflink=never", mixed / "model-00001-of-00003.safetensors", folder / "shard-copy"], check=True
    )
    copied = time.perf_counter() - started
    subprocess.run(["sync", "-d", folder / "tower-copy", folder / "shard-copy"], check=True)
    flushed = time.perf_counter() - started
    for name in ("tower-copy", "shard-copy"):
        (folder / name).unlink()
    os.sync()
    loaded = run(TRANSFORMERS, mixed, "--encoder", tower, "--out", folder / "saved")
    shutil.rmtree(folder / "saved")
    tower_bytes = tower.stat().st_size
    work, graft = "load, replace, save_pretrained of transformers", "grafting by surgery"
    times = f"{loaded[0]:.1f} s and {surgery[0]:.1f} s; {host}"
    yield shown(f"{work}: seconds", graft, loaded[0] / surgery[0], times)
    yield shown(
        f"{work}: memory", graft, loaded[1] / surgery[1], f"{loaded[1] / 1e9:.2f} and {surgery[1] / 1e9:.2f} GB"
    )
    note = f"where the copy, too, is flushed to the disk {surgery[0] / flushed:.2f} x"
    yield shown(f"{graft}: seconds", "the limit: cp of mixed shard and tower", surgery[0] / copied, note)
    beyond = (surgery[1] - bare[1]) / tower_bytes
    yield shown(f"{graft}: memory beyond Python with torch", "the tower's bytes", beyond)
    shutil.rmtree(mixed)
    run(HOST, apart, layers, "apart")
    run(SURGERY, apart, "--encoder", tower, "--out", folder / "graft")
    written = sum(path.stat().st_size for path in (folder / "graft").iterdir() if path.stat().st_nlink == 1)
    yield shown(f"{graft}, tower in a shard of its own: bytes written", "the tower's", written / tower_bytes)


def run(code: str, *arguments: object) -> tuple[float, int]:
    """Seconds and peak memory in bytes of a Python process."""
    report = "\nimport resource as _r; print('PEAK', _r.getrusage(_r.RUSAGE_SELF).ru_maxrss * 1024)\n"
    code = code.replace("; sys.exit(main(", "; code = main(").replace(
        "*sys.argv[1:]]))", "*sys.argv[1:]]); assert code == 0"
    )
    started = time.perf_counter()
    command = [sys.executable, "-c", code + report, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - started, int(done.stdout.rpartition("PEAK")[2])


if __name__ == "__main__":
    main()
