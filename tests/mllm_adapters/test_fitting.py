"""A model whose forward pass fails above a number of tokens, as one does whose memory is full."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tiny.any_host import save_tiny

from mgll.images.preprocessing import open_image
from mgll.vocabulary.questions import question_text
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.prompts import EncodedPrompts
from mllm_adapters.loading.load import load
from mllm_adapters.prompting.attention_choice import seconds_by_attention
from mllm_adapters.prompting.encoding import encode_prompts
from mllm_adapters.prompting.fitting import as_many_as_fit, out_of_memory
from mllm_adapters.prompting.rows import replies
from mllm_adapters.prompting.scoring import log_probs

CARD = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
COMPUTER = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: not enough memory: you tried to allocate"
)


@pytest.fixture(scope="module", params=["llava", "instructblip", "qwen2-vl"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree and a common start in keys and values; whole prompts in an encoder-decoder; a tree and whole replies."""
    return save_tiny(request.param, tmp_path_factory.mktemp("host") / request.param)


def asked(loaded: LoadedHost, photographs: list[Path]) -> list[EncodedPrompts]:
    options = ("Drusen", "Glaucoma", "Media Haze", "Age-related Macular Degeneration")
    orders = [options[turn:] + options[:turn] for turn in range(4)]
    prompts = [loaded.host.prompt(question_text("What is it?", order)) for order in orders]
    return [encode_prompts(loaded, open_image(path), prompts) for path in photographs[:3]]


@contextmanager
def memory_for(model: torch.nn.Module, tokens: int, error: Exception) -> Iterator[list[int]]:
    """Let the model's forward pass fail above a number of tokens; yields the tokens of each pass that was tried."""
    tried: list[int] = []

    def check(_module: torch.nn.Module, _inputs: object, named: dict[str, torch.Tensor]) -> None:
        tried.append(named["input_ids"].numel())
        if tried[-1] > tokens:
            raise error

    handle = model.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield tried
    finally:
        handle.remove()


@pytest.mark.parametrize("error", [CARD, COMPUTER], ids=["card", "computer"])
def test_a_full_memory_halves_the_batch_and_leaves_the_numbers(
    directory: Path, photographs: list[Path], error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load(directory)
    cases = asked(loaded, photographs)
    wanted = [[[[1, 2], [3]] for _ in case.ids] for case in cases]
    with torch.inference_mode(), memory_for(loaded.model, 10**9, error) as tried:
        expected, said = log_probs(loaded, cases, wanted), replies(loaded, cases, 3)
    whole = max(tried)
    with torch.inference_mode(), memory_for(loaded.model, whole // 2, error) as tried:
        found, again = log_probs(loaded, cases, wanted), replies(loaded, cases, 3)
        assert any(tokens > whole // 2 for tokens in tried)
        heard = [line for line in capsys.readouterr().err.splitlines() if "full" in line]
        tried.clear()
        log_probs(loaded, cases, wanted), replies(loaded, cases, 3)
        assert max(tried) <= whole // 2, "what did not fit is not tried again"
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert again == said
    assert all("the memory is full at" in line and "at a time" in line for line in heard)
    assert "the memory is full at 12 prompts; going on with 6 at a time" in heard
    assert not capsys.readouterr().err


def test_one_prompt_that_is_too_much_ends_in_one_line_and_other_errors_are_not_taken_for_it(
    directory: Path, photographs: list[Path]
) -> None:
    loaded = load(directory)
    cases = asked(loaded, photographs)
    wanted: list[list[list[list[int]]]] = [[[] for _ in case.ids] for case in cases]
    with torch.inference_mode(), memory_for(loaded.model, 3, CARD), pytest.raises(MemoryError) as raised:
        log_probs(loaded, cases, wanted)
    assert "\n" not in str(raised.value)
    assert "one of the prompts alone is too much; take --dtype bfloat16" in str(raised.value)
    other = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert not out_of_memory(other)
    with torch.inference_mode(), memory_for(loaded.model, 3, other), pytest.raises(RuntimeError, match="mat1 and mat2"):
        log_probs(loaded, cases, wanted)


@pytest.mark.parametrize("most", [1, 3, 7, 40])
def test_every_item_is_worked_on_once_and_in_order(most: int) -> None:
    model, sizes = torch.nn.Identity(), []

    def work(items: list[int]) -> list[int]:
        if len(items) > most:
            raise MemoryError
        sizes.append(len(items))
        return [item * item for item in items]

    assert as_many_as_fit(model, "numbers", work, range(40)) == [number * number for number in range(40)]
    assert as_many_as_fit(model, "numbers", work, range(5)) == [number * number for number in range(5)]
    assert max(sizes) <= most < 2 * max(sizes) + 2


def test_both_attentions_are_timed(directory: Path, photographs: list[Path]) -> None:
    loaded = load(directory)
    with torch.inference_mode():
        seconds = seconds_by_attention(loaded, asked(loaded, photographs)[:1], rounds=1)
    assert seconds.keys() == {"limbs", "mask"}
    assert min(seconds.values()) > 0


def test_replies_read_a_common_start_once(tmp_path: Path, photographs: list[Path]) -> None:
    loaded = load(save_tiny("llava", tmp_path / "llava"))
    cases = asked(loaded, photographs)
    with torch.inference_mode(), memory_for(loaded.model, 10**9, CARD) as tried:
        replies(loaded, cases, 1)
    starts, ends = max(case.shared for case in cases), max(len(ids) - case.shared for case in cases for ids in case.ids)
    assert tried == [3 * starts, 12 * ends]
