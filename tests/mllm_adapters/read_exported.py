"""Reads exported folders as somebody does who has transformers and not this package; started by `test_export.py`.

    python -S read_exported.py SITE_PACKAGES QUESTIONS RESULT

`-S` keeps an editable installation of the package off the path. QUESTIONS holds for each model
its folder, whether it has code, the prompt, the question in it, and an image.
"""

import sys

sys.path = [path for path in sys.path[1:] if path] + [sys.argv[1]]

import importlib.util  # noqa: E402

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: E402

assert not any(importlib.util.find_spec(name) for name in ("mgll", "mllm_adapters", "benchmark"))

found = {}
for name, (folder, code, prompt, question, image) in torch.load(sys.argv[2]).items():
    model, info = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=code, output_loading_info=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=code)
    picture = Image.fromarray(image.numpy())
    inputs = processor(images=[picture], text=[prompt], return_tensors="pt")
    message = {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]}
    chat = None
    if processor.chat_template:  # transformers' processor of InstructBLIP takes none
        chat = processor.apply_chat_template([message], tokenize=True, return_dict=True, return_tensors="pt")
        chat = chat.keys() == inputs.keys() and all(torch.equal(chat[key], inputs[key]) for key in inputs)
    with torch.inference_mode():
        found[name] = {
            "class": type(model).__name__,
            "wrong": [str(names) for names in info.values() if names],
            "logits": model.eval()(**inputs).logits[:, -1].float(),
            "chat": chat,
        }
torch.save(found, sys.argv[3])
