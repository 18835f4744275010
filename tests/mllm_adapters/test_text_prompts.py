"""Questions without an image: every host that can be asked one answers as its class does, given the same words alone."""

from pathlib import Path

import pytest
import torch
from tiny.any_host import save_tiny

from mllm_adapters.contract.terms import HostError
from mllm_adapters.hosts.registry import HOSTS, get_host
from mllm_adapters.loading.load import load
from mllm_adapters.prompting.answer_slot import plain_ids
from mllm_adapters.prompting.encoding import encode_text
from mllm_adapters.prompting.rows import replies
from mllm_adapters.prompting.scoring import log_probs


@pytest.mark.parametrize("name", [name for name in HOSTS if get_host(name).marker])
def test_a_question_without_image(name: str, tmp_path: Path) -> None:
    host = get_host(name)
    assert host.prompt("Why?").count(host.marker) == 1
    loaded = load(save_tiny(name, tmp_path / name))
    questions = ["Which organ is seen?", "Why is that so, and what else might it be?"]
    encoded = [encode_text(loaded, question) for question in questions]
    prompts = [host.prompt(question).replace(host.marker, "") for question in questions]
    assert [case.prompts for case in encoded] == [(prompt,) for prompt in prompts]
    with torch.inference_mode():
        found = log_probs(loaded, encoded, [[[]], [[]]])
        for prompt, ((slot,),) in zip(prompts, found, strict=True):
            ids = torch.tensor(plain_ids(loaded.processor.tokenizer, [prompt]))
            logits = loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
            torch.testing.assert_close(slot, logits.float().log_softmax(-1), atol=1e-4, rtol=0)
        alone = [replies(loaded, [case], 4)[0] for case in encoded]
        assert replies(loaded, encoded, 4) == alone


def test_a_host_that_needs_an_image_says_so(tmp_path: Path) -> None:
    loaded = load(save_tiny("instructblip", tmp_path / "host"))
    with pytest.raises(HostError, match="questions about images only"):
        encode_text(loaded, "Why?")
