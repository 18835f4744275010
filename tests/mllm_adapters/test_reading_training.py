"""Language models learn to read questions in words: what is trained, what is not, and that a killed run goes on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mllm_adapters.demo.conversation import conversation_tokenizer
from mllm_adapters.demo.decoder import IMAGE, shipped_decoder
from mllm_adapters.demo.decoder_training import bags_of_words
from mllm_adapters.demo.reading import draw_question, text_of
from mllm_adapters.demo.reading_training import reads_mixtures, teach_reading
from mllm_adapters.demo.settings import ReadingTraining
from mllm_adapters.hosts.registry import get_host

FEW = ReadingTraining(steps=6, batch_size=4, learning_rate=1e-3, words_first=0.3, spread=0.8, checkpoint_every=3)


class KilledError(Exception):
    pass


def taught(family: str, settings: ReadingTraining, checkpoints: Path | None = None, killed_at: int | None = None):
    """The demo's decoder after it was taught in a family's form, and what was reported of each step."""
    host = get_host(family)
    model = shipped_decoder().requires_grad_(False)
    model.get_decoder().layers.requires_grad_(True)
    said = []

    def report(values):
        said.append(values)
        if values["step"] == killed_at:
            raise KilledError

    teach_reading(model, conversation_tokenizer(host, IMAGE), host, settings, report, checkpoints)
    return model, said


@pytest.mark.parametrize("family", ["llava", "instructblip"])
def test_a_killed_run_ends_as_an_undisturbed_one(family, tmp_path):
    undisturbed, whole = taught(family, FEW)
    assert {values["spread"] for values in whole} == {0.0, 1.0}
    with pytest.raises(KilledError):
        taught(family, FEW, tmp_path, killed_at=5)
    resumed, rest = taught(family, FEW, tmp_path)
    assert [values["step"] for values in rest] == [4, 5, 6]
    assert rest == whole[3:]
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_only_what_requires_gradients_is_trained():
    before, (after, _) = shipped_decoder().state_dict(), taught("llava", FEW)
    changed = {name for name, tensor in after.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if ".layers." in name}


@pytest.mark.parametrize("family", ["llava", "instructblip"])
def test_bfloat16_learns_much_the_same(family):
    once = ReadingTraining(steps=1, batch_size=16)
    in_full = taught(family, once)[1][0]["loss"]
    in_half = taught(family, ReadingTraining(steps=1, batch_size=16, mixed_precision="bf16"))[1][0]["loss"]
    assert in_half != in_full
    assert in_half == pytest.approx(in_full, rel=0.05)


def test_the_demos_decoder_reads_mixtures_and_a_random_one_does_not():
    host = get_host("llava")
    tokenizer, settings = conversation_tokenizer(host, IMAGE), ReadingTraining()
    assert reads_mixtures(shipped_decoder(), tokenizer, host, settings) > 0.5
    torch.manual_seed(0)
    untrained = type(shipped_decoder())(shipped_decoder().config).eval()
    assert reads_mixtures(untrained, tokenizer, host, settings) < 0.4


@pytest.mark.parametrize("centred", [True, False])
def test_centred_mixtures_lie_around_the_mean_name_as_an_aligned_connectors_do(centred):
    """With a part that all words have in common, as in a pretrained table, sums of many names would be little else."""
    host, model = get_host("llava"), shipped_decoder()
    tokenizer = conversation_tokenizer(host, IMAGE)
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        table += 5 * table.norm(dim=-1).mean() * torch.nn.functional.normalize(torch.ones(table.shape[-1]), dim=0)
    common = (bags_of_words(tokenizer) @ table).mean(0)
    seen = []
    model.register_forward_pre_hook(lambda _, __, given: seen.append(given["inputs_embeds"]), with_kwargs=True)
    settings = ReadingTraining(batch_size=32, most_positions=1, centred=centred)
    reads_mixtures(model, tokenizer, host, settings, batches=2)
    in_table = {tuple(row) for row in [*table.tolist(), [0.0] * table.shape[-1]]}  # zeros fill up
    of_image = [row for batch in seen for row in batch.flatten(0, 1).tolist() if tuple(row) not in in_table]
    assert len(of_image) == 64
    away = (torch.tensor(of_image).mean(0) - common).norm() / common.norm()
    assert away < 0.1 if centred else away > 1


def test_the_end_of_an_answer_is_learnt_with_its_letter():
    """Unlearnt it would be most of the loss in fine-tuning, which takes both."""
    host = get_host("llava")
    tokenizer = conversation_tokenizer(host, IMAGE)
    torch.manual_seed(0)
    model = type(shipped_decoder())(shipped_decoder().config)
    answered = tokenizer(host.prompt(text_of(draw_question(np.random.default_rng(0), False))) + host.answer("B"))

    @torch.inference_mode()
    def ends():
        logits = model(torch.tensor([answered["input_ids"]])).logits[0, -1]
        return logits.softmax(-1)[tokenizer.eos_token_id]

    assert ends() < 0.05
    teach_reading(model, tokenizer, host, ReadingTraining(steps=30, batch_size=4, learning_rate=1e-3))
    assert ends() > 0.5
