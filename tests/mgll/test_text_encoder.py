"""Text encoders: pooling as each model needs, what is trained, and unique texts against every occurrence."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_text_models import bert, clip, llama
from transformers import AutoModel, AutoTokenizer, BertModel, CLIPModel, CLIPVisionConfig, CLIPVisionModel, T5Config

from mgll.encoders.text import TextEncoder
from mgll.encoders.vision import vision_encoder
from mgll.manifest.records import Record
from mgll.naive_objective import Occurrences, naive_objective
from mgll.settings import PretrainSettings
from mgll.training.data import text_levels
from mgll.training.model import ContrastiveModel
from mgll.training.texts import TrainingTexts
from mgll.vocabulary.label_texts import describe_labels

TEXTS = ["normal", "mild diabetic retinopathy", "drusen", "a large cup, and a notch of the rim"]
MAKERS = {"bert": bert, "llama": llama, "clip": clip}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("text_models")
    return {name: make(folder / name) for name, make in MAKERS.items()}


def encode(encoder: TextEncoder, texts: list[str]) -> torch.Tensor:
    return encoder(*encoder.tokenise(texts).batch(torch.arange(len(texts))))


@pytest.mark.parametrize("name", MAKERS)
@torch.no_grad()
def test_a_padded_batch_gives_what_each_text_gives_alone(folders, name):
    encoder = TextEncoder(folders[name])
    ids, mask = encoder.tokenise(TEXTS).batch(torch.tensor([2, 3]))
    assert ids.shape == mask.shape
    assert mask.sum(1).max() == ids.shape[1] < 40  # filled up to the longest, not to the model's 77 or 512
    alone = torch.cat([encode(encoder, [text]) for text in TEXTS])
    torch.testing.assert_close(encode(encoder, TEXTS), alone, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        encoder.features(TEXTS, batch_size=3), torch.nn.functional.normalize(alone), rtol=1e-4, atol=1e-6
    )


@torch.no_grad()
def test_pooling_is_what_each_model_needs(folders):
    text = TEXTS[1]
    hidden = {
        name: AutoModel.from_pretrained(folders[name])(
            **AutoTokenizer.from_pretrained(folders[name])([text], return_tensors="pt", return_token_type_ids=False)
        ).last_hidden_state[0]
        for name in ("bert", "llama")
    }
    expected = {"cls": hidden["bert"][0], "mean": hidden["bert"].mean(0), "last": hidden["bert"][-1]}
    for pooling, feature in expected.items():
        torch.testing.assert_close(encode(TextEncoder(folders["bert"], pooling=pooling), [text])[0], feature)
    torch.testing.assert_close(encode(TextEncoder(folders["bert"]), [text])[0], expected["mean"])
    torch.testing.assert_close(encode(TextEncoder(folders["llama"]), [text])[0], hidden["llama"][-1])
    whole = CLIPModel.from_pretrained(folders["clip"])
    tokens = AutoTokenizer.from_pretrained(folders["clip"])(TEXTS, padding=True, return_tensors="pt")
    end_of_text = whole.text_model(tokens["input_ids"], tokens["attention_mask"]).pooler_output
    torch.testing.assert_close(encode(TextEncoder(folders["clip"]), TEXTS), end_of_text)
    with pytest.raises(ValueError, match=r"the first token of .* sees no other"):
        TextEncoder(folders["llama"], pooling="cls")


@pytest.mark.parametrize("name", MAKERS)
def test_the_last_layers_are_trained_and_all_that_is_trained_gets_a_gradient(folders, name):
    trained = {}
    for training in ("frozen", 1, 2, "full"):
        encoder = TextEncoder(folders[name], training)
        trained[training] = [name for name, p in encoder.named_parameters() if p.requires_grad]
        if trained[training]:
            encode(encoder, TEXTS).sum().backward()
        assert trained[training] == [name for name, p in encoder.named_parameters() if p.grad is not None]
    assert not trained["frozen"]
    assert not any(".layers.1." in n or ".layer.1." in n or "embed" in n for n in trained[1])
    assert set(trained[1]) < set(trained[2]) < set(trained["full"])
    assert any("embed" in n for n in trained["full"])
    assert not any("pooler" in n for n in trained["full"])
    with pytest.raises(ValueError, match="text_training 4: the encoder has 3 layers; give 1 to 3, or `full`"):
        TextEncoder(folders[name], 4)


def test_dropout_is_off_unless_set(folders):
    still, noisy = TextEncoder(folders["bert"], "full"), TextEncoder(folders["bert"], "full", dropout=0.5)
    assert still.training
    assert torch.equal(encode(still, TEXTS), encode(still, TEXTS))
    assert not torch.allclose(encode(noisy, TEXTS), encode(noisy, TEXTS))


def test_what_is_no_text_encoder_is_refused(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"text encoder '.*nowhere'"):
        TextEncoder(str(tmp_path / "nowhere"))
    folder = Path(bert(tmp_path / "short"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(ValueError, match=r"does not hold the weights of a BertModel: it lacks encoder\.layer\.3"):
        TextEncoder(str(folder))
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(
        ValueError,
        match=r"encoder\.layer\.0\.intermediate\.dense\.weight is \(64, 32\), its config.json says \(48, 32\)",
    ):
        TextEncoder(str(folder))
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        TextEncoder(str(folder))
    T5Config().save_pretrained(tmp_path / "t5")
    with pytest.raises(ValueError, match="a 't5' is no text encoder"):
        TextEncoder(str(tmp_path / "t5"))
    encoder = TextEncoder(folders["llama"])
    encoder.tokenizer.backend_tokenizer.post_processor = None
    with pytest.raises(ValueError, match="1 of 2 texts have no token"):
        encoder.tokenise(["normal", ""])


def test_a_folder_without_its_own_tokenizer_is_refused(folders, tmp_path):
    BertModel.from_pretrained(folders["bert"]).save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"bare has no tokenizer: put .*tokenizer\.json"):
        TextEncoder(str(tmp_path / "bare"))
    CLIPVisionModel(CLIPVisionConfig(num_hidden_layers=1)).save_pretrained(tmp_path / "images")
    with pytest.raises(ValueError, match="a 'clip_vision_model' is no text encoder"):
        TextEncoder(str(tmp_path / "images"))
    encoder = TextEncoder(folders["bert"])
    encoder.tokenizer.add_tokens(["drusen"])
    with pytest.raises(ValueError, match="gives a token number 99, the text encoder knows 99"):
        encoder.tokenise(["drusen"])


def test_settings_that_there_are_not_are_refused(folders):
    with pytest.raises(ValueError, match="text_pooling 'max'; choose auto, cls, mean, last"):
        TextEncoder(folders["bert"], pooling="max")
    with pytest.raises(ValueError, match="text_training 'last'; choose frozen, full or a number"):
        TextEncoder(folders["bert"], "last")


def test_a_text_that_is_cut_is_counted(folders):
    with pytest.warns(UserWarning, match="1 of 2 texts fill all 77 tokens"):
        tokens = TextEncoder(folders["clip"]).tokenise(["short", "long " * 30])
    assert tokens.lengths.tolist() == [7, 77]


@pytest.mark.parametrize("name", MAKERS)
def test_each_text_encoded_once_gives_value_and_gradient_of_every_occurrence_encoded(folders, name):
    labels = (["Health"], ["Mild NPDR", "DME"], ["Health"], ["Drusen"], ["DME"])
    records = [Record(image="x", split="train", group="g", texts=describe_labels(own)) for own in labels]
    records[3] = replace_texts(records[3], disease=records[3].texts["disease"])  # without the other level
    records[4] = replace_texts(records[4], disease=["DME"], explanation=["DME"])  # one text at two levels
    torch.manual_seed(0)
    settings = PretrainSettings(encoder="vit-nano-16", image_size=32, feature_width=16, objective="mgll-paper")
    encoder = TextEncoder(folders[name], "full")
    model = ContrastiveModel(vision_encoder("vit-nano-16", 32), encoder, settings).double()
    pixels = torch.randn(5, 3, 32, 32, dtype=torch.float64)
    texts = TrainingTexts(text_levels(records, levels="separate"), encoder, "cpu").batch(range(5))
    texts = replace(texts, incidences={name: own.double() for name, own in texts.incidences.items()})
    fast = model(pixels, torch.ones(5, dtype=torch.bool), texts)["loss"]

    levels = {}
    for level in ("disease", "explanation"):
        strings = [(image, text) for image, record in enumerate(records) for text in record.texts.get(level, ())]
        features = [model.encode_texts(*encoder.tokenise([text]).batch(torch.tensor([0]))) for _, text in strings]
        unique = sorted({text for _, text in strings})
        names = torch.tensor([unique.index(text) for _, text in strings])
        levels[level] = Occurrences(torch.cat(features), torch.tensor([image for image, _ in strings]), names)
    naive = naive_objective(model.encode_images(pixels), levels, model.objective)

    # a decoder's norms and rotations are computed in float32 whatever its weights are
    tolerance = {"rtol": 1e-3, "atol": 1e-5} if name == "llama" else {"rtol": 1e-6, "atol": 1e-9}
    assert fast.item() == pytest.approx(naive.item(), rel=1e-6 if name == "llama" else 1e-9)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    ours, theirs = (torch.autograd.grad(loss, list(trained.values())) for loss in (fast, naive))
    for parameter, a, b in zip(trained, ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **tolerance, msg=lambda m, p=parameter: f"{p}: {m}")
    assert len(texts.inputs[0]) < sum(len(level.owners) for level in levels.values())


def replace_texts(record: Record, **texts) -> Record:
    return record.model_copy(update={"texts": {level: tuple(own) for level, own in texts.items()}})
