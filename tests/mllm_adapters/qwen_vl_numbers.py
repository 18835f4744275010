"""What the published code of Qwen-VL computes on a tiny instance, for `test_qwen_vl.py`; and that instance's weights.

The stored numbers (`qwen_vl_numbers.json`) were made by this file, given a folder with the Python files that lie beside the weights
of Qwen/Qwen-VL-Chat on the hub (`modeling_qwen.py`, `configuration_qwen.py`, `qwen_generation_utils.py`, `visual.py`):

    python tests/mllm_adapters/qwen_vl_numbers.py FOLDER

beside torch 2.15.0, transformers 5.23.0 and einops 0.8.2, on a CPU. In them the check for `transformers_stream_generator` must be
taken out, a package that transformers 5 breaks; what else is missing is put back below. Weights come from a generator whose
stream numpy keeps fixed, seeded with the tensors' published names.
"""

import importlib
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

STORED = Path(__file__).with_suffix(".json")
SIDE, IMAGE_START, PLACES = 56, 480, 256
#: As in the published config.json; 480 is where `<img>` lies behind the 266 byte pairs of `qwen_vl_published`.
CONFIG = {
    "architectures": ["QWenLMHeadModel"],
    "model_type": "qwen",
    "vocab_size": 496,
    "hidden_size": 256,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "kv_channels": 64,
    "layer_norm_epsilon": 1e-06,
    "max_position_embeddings": 8192,
    "seq_length": 2048,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "no_bias": True,
    "tie_word_embeddings": False,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "use_flash_attn": False,
    "visual": {
        "heads": 2,
        "image_size": SIDE,
        "image_start_id": IMAGE_START,
        "layers": 2,
        "mlp_ratio": 2.0,
        "output_dim": 256,
        "patch_size": 14,
        "width": 32,
    },
}
BEFORE, AFTER = [10, 20, 30], [40, 50, 60, 70]


def values(name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform, of a size that keeps attention soft; around 1 for the scales of norms."""
    noise = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, shape)
    if len(shape) > 1:
        return torch.from_numpy(noise * 1.5 / shape[-1] ** 0.5).float()
    is_scale = ".ln_" in name and name.endswith("weight")
    return torch.from_numpy(noise * 0.2 + is_scale).float()


def photograph() -> Image.Image:
    """As large as the tower wants it, so that nobody's way of resizing matters."""
    return Image.fromarray((np.arange(SIDE * SIDE * 3) * 37 % 251).astype(np.uint8).reshape(SIDE, SIDE, 3))


def published_tensors() -> dict[str, Tensor]:
    """All tensors under their published names."""
    return {name: values(name, tuple(shape)) for name, shape in json.loads(STORED.read_text())["tensors"].items()}


@torch.no_grad()
def reference_numbers(folder: Path) -> dict[str, object]:
    """Shapes of the tensors, features of the image, and logits with and without it."""
    sys.path.insert(0, str(folder.resolve().parent))
    modeling = importlib.import_module(f"{folder.name}.modeling_qwen")
    configuration = importlib.import_module(f"{folder.name}.configuration_qwen")
    modeling.QWenPreTrainedModel.get_head_mask = lambda self, mask, layers: [None] * layers
    settings = {"fp32": True, "use_cache": False, "return_dict": True, **CONFIG}
    model = modeling.QWenLMHeadModel(configuration.QWenConfig(**settings)).eval()
    sincos = model.transformer.visual.attn_pool.pos_embed.clone()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: values(name, shape) for name, shape in shapes.items()})
    path = "photograph.png"
    photograph().save(path)
    written = [*path.encode(), *[IMAGE_START + 2] * (PLACES - len(path))]
    with_image = torch.tensor([[*BEFORE, IMAGE_START, *written, IMAGE_START + 1, *AFTER]])
    features = model.transformer.visual.encode([path])[0]
    logits = model(with_image).logits[0]
    Path(path).unlink()
    return {
        "tensors": shapes,
        "features": rounded(features[::51, ::16]),
        "logits": rounded(logits[[2, 3, 100, 259, 260, 263], ::8]),
        "text_logits": rounded(model(torch.tensor([BEFORE + AFTER])).logits[0, ::3, ::8]),
        "sincos": rounded(sincos[::37, ::11]),
    }


def rounded(tensor: Tensor) -> list[list[float]]:
    return [[round(x, 6) for x in row] for row in tensor.tolist()]


if __name__ == "__main__":
    STORED.write_text(json.dumps(reference_numbers(Path(sys.argv[1])), separators=(",", ":")) + "\n")
