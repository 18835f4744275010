"""Names of encoders as they are found without the libraries: exactly those that the libraries have."""

import subprocess
import sys

import open_clip
import pytest
import timm

from mgll.encoders.names import check_encoder_name, open_clip_names, timm_names


def test_the_names_are_those_of_the_libraries() -> None:
    assert timm_names() == set(timm.list_models())
    assert open_clip_names() == set(open_clip.list_models())


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
