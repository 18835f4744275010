"""Names of encoders as they are found without the libraries: exactly those that the libraries have."""

import json
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest

from mgll.encoders.names import check_encoder_name, open_clip_names

#: prints whether the names that files give are those of the library, which is imported only after they were read
COMPARED = """
import sys
from mgll.encoders.names import open_clip_names, timm_names
by_files = timm_names(), open_clip_names()
assert not {"timm", "open_clip"} & sys.modules.keys()
import timm, open_clip
assert by_files == (set(timm.list_models()), set(open_clip.list_models()))
assert by_files == (timm_names(), open_clip_names())
"""


def test_the_names_in_the_files_are_those_of_the_libraries() -> None:
    done = subprocess.run([sys.executable, "-c", COMPARED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_model_that_was_added_to_open_clip_has_a_name_too(tmp_path: Path) -> None:
    config = json.loads((Path(open_clip.__file__).parent / "model_configs" / "ViT-S-32.json").read_text())
    (tmp_path / "of-our-own.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    check_encoder_name("open_clip:of-our-own")
    assert "of-our-own" in open_clip_names()


@pytest.mark.parametrize("name", ["vit-tiny-16", "convnext-base", "timm:resnet50", "open_clip:ViT-B-16", "hf:anything"])
def test_a_right_name_is_nothing_to_speak_of(name: str) -> None:
    check_encoder_name(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "timm:vit_tiny_patch16_24",
            "timm has no model called 'vit_tiny_patch16_24'; did you mean vit_tiny_patch16_224",
        ),
        ("open_clip:ViT-B-17", "open_clip has no model called 'ViT-B-17'; did you mean ViT-B-16"),
        ("resnet50", "unknown encoder 'resnet50'; did you mean timm:resnet50"),
        ("vit-tiny", "unknown encoder 'vit-tiny'; did you mean vit-tiny-16"),
    ],
)
def test_a_mistyped_name_is_found_before_torch_and_any_image(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_encoder_name(name)
    words = ["pretrain", "--encoder", name, "--manifest", "no.jsonl"]
    code = "import sys; from mgll.__main__ import main; sys.exit(main(sys.argv[1:]) + 8 * ('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.startswith(f"error: {said}")) == (1, True), done.stderr
