"""Fine-tuning may decode drafts where a host's processor makes one square of every image, and refuses elsewhere."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import CLIPImageProcessor, Qwen2VLImageProcessor
from transformers.models.llava.image_processing_llava import LlavaImageProcessor

from mgll.images.decoding import BOUND, open_for
from mgll.images.preprocessing import Preprocessing, open_image
from mgll.synthetic.drawing import draw_eye
from mllm_adapters.finetuning.images import Preparation
from mllm_adapters.finetuning.loader import Examples
from mllm_adapters.finetuning.texts import Texts
from mllm_adapters.loading.load import load
from mllm_adapters.modules.image_processor import image_processor_settings, square_rule
from mllm_adapters.modules.square_images import SquareImages
from mllm_adapters.settings import FinetuneSettings


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("photographs") / "a.jpg"
    draw_eye(("Health",), 0, 640).crop((0, 80, 640, 560)).save(path, quality=92)
    return path


@pytest.mark.parametrize("resize", ["pad", "crop", "squash"])
@pytest.mark.parametrize("kind", [LlavaImageProcessor, SquareImages])
def test_a_processor_of_squares_makes_of_a_draft_what_it_makes_of_the_photograph(photograph, kind, resize):
    given = Preprocessing(size=24, resize=resize)
    processor = kind(**image_processor_settings(given))
    assert square_rule(processor) == given
    draft = open_for(photograph, given.model_copy(update={"decode": "draft"}))
    assert draft.width < 640
    made, full = (processor(image, return_tensors="pt").pixel_values for image in (draft, open_image(photograph)))
    assert ((made - full).abs() * torch.tensor(given.std).view(3, 1, 1) * 255).max() < BOUND + 0.01


def test_processors_that_follow_the_image_have_no_rule():
    assert square_rule(CLIPImageProcessor(size={"shortest_edge": 24}, crop_size=24)).resize == "crop"
    assert square_rule(CLIPImageProcessor(do_center_crop=False, size={"shortest_edge": 24})) is None
    assert square_rule(Qwen2VLImageProcessor()) is None


def test_hosts_whose_tiles_follow_the_image_refuse_drafts(hosts: Callable[[str], Path], photograph: Path) -> None:
    loaded = load(hosts("qwen2_vl"))
    preparation = Preparation(loaded, Texts(loaded))
    assert Examples([], {}, preparation, FinetuneSettings()).preparation is preparation
    with pytest.raises(ValueError, match="tiles or sizes follow the image"):
        Examples([], {}, preparation, FinetuneSettings(decode="draft"))
