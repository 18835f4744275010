"""Features are computed once, for the tower, image and preprocessing that they are of; what a kill leaves is gone on with."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import launches
import numpy as np
import pytest
from PIL import Image

from mgll.evaluation.features import features_of
from mgll.evaluation.towers import Tower, tower_file
from mgll.images.preprocessing import ImageError
from mgll.run_folder import locked
from mgll.tower.features import tower_features


@pytest.fixture
def images(manifest, tmp_path) -> list[str]:
    """Copies of ten pictures, in a folder that a test may change."""
    return [shutil.copy2(manifest.parent / f"{index}.png", tmp_path / f"{index}.png") for index in range(10)]


@pytest.fixture
def tower(tower_path) -> Tower:
    return tower_file(tower_path)


def closed(tower: Tower) -> Tower:
    """The same tower, of which no model may be built: all that is asked for must be in the cache."""

    def load():
        raise AssertionError("features were computed again")

    return replace(tower, load=load)


def test_features_are_those_of_the_tower_and_are_computed_once(tower, tower_path, images, tmp_path):
    found = features_of(tower, images, tmp_path / "cache", batch_size=4)
    np.testing.assert_allclose(found, tower_features(tower_path, images), atol=1e-5)
    again = features_of(closed(tower), [*images[::-1], images[3]], tmp_path / "cache")
    np.testing.assert_array_equal(again, found[[*range(9, -1, -1), 3]])
    said = json.loads(next((tmp_path / "cache").glob("*/features.json")).read_text())
    assert (said["tower_sha256"], said["width"], said["precision"]) == (tower.digest, 64, "float32")


def test_only_new_and_changed_images_are_computed(tower, images, tmp_path):
    before = features_of(tower, images[:6], tmp_path / "cache")
    Image.new("RGB", (32, 32), (9, 200, 9)).save(images[2])
    after = features_of(tower, images, tmp_path / "cache")
    assert not np.array_equal(after[2], before[2])
    np.testing.assert_array_equal(np.delete(after[:6], 2, axis=0), np.delete(before, 2, axis=0))
    assert len(next((tmp_path / "cache").glob("*/images-0.txt")).read_text().split()) == 6 + 1 + 4


def test_another_tower_preprocessing_pooling_or_precision_has_features_of_its_own(tower, images, tmp_path):
    features_of(tower, images, tmp_path / "cache")
    for other in (
        replace(tower, digest="0" * 64),
        replace(tower, preprocessing=tower.preprocessing.model_copy(update={"resize": "squash"})),
        replace(tower, pooling="cls"),
    ):
        features_of(other, images, tmp_path / "cache")
    features_of(tower, images, tmp_path / "cache", precision="bfloat16")
    assert len(list((tmp_path / "cache").glob("*/features.json"))) == 5


def test_all_images_that_cannot_be_read_are_named_together(tower, images, tmp_path):
    for number in (2, 5):
        Path(images[number]).write_bytes(Path(images[number]).read_bytes()[:100])
    with pytest.raises(
        ImageError, match=r"^2 images cannot be read, of \d+ looked at: [^\n]*2\.png[^\n]*5\.png[^\n]*$"
    ):
        features_of(tower, images, tmp_path / "cache", batch_size=2)


def test_a_run_that_stopped_is_gone_on_with(tower, images, tmp_path):
    whole = features_of(tower, images, tmp_path / "undisturbed", batch_size=2)
    content = Path(images[7]).read_bytes()
    state = Path(images[7]).stat()
    Path(images[7]).write_bytes(content[:100])
    with pytest.raises(ImageError, match=r"7\.png"):
        features_of(tower, images, tmp_path / "cache", batch_size=2)
    (names,) = (tmp_path / "cache").glob("*/images-0.txt")
    assert len(names.read_text().split()) == 6
    Path(images[7]).write_bytes(content)
    os.utime(images[7], ns=(state.st_atime_ns, state.st_mtime_ns))
    with names.open("a") as file:
        file.write("0123456789abcdef")  # a line that a kill cut short
    with names.with_name("features-0.f32").open("ab") as file:
        file.write(b"\1" * 300)  # and a row and a bit whose lines were not written
    np.testing.assert_allclose(features_of(tower, images, tmp_path / "cache", batch_size=2), whole, atol=1e-5)
    np.testing.assert_allclose(features_of(closed(tower), images, tmp_path / "cache"), whole, atol=1e-5)


@pytest.mark.slow
def test_a_second_run_in_the_same_cache_is_refused_and_readers_are_not(tower, images, tmp_path):
    features_of(tower, images[:5], tmp_path / "cache")
    (folder,) = (tmp_path / "cache").glob("*")
    code = (
        "import sys; from mgll.evaluation.features import features_of; from mgll.evaluation.towers import tower_file\n"
        "try: print(len(features_of(tower_file(sys.argv[1]), sys.argv[3:], sys.argv[2])))\n"
        "except ValueError as error: print(error)"
    )
    with locked(folder):
        ask = ["-c", code, tower.path, tmp_path / "cache"]
        assert launches.run([*ask, *images[:5]]).stdout.strip() == "5"
        assert "is in use by process" in launches.run([*ask, *images]).stdout


@pytest.mark.slow
def test_two_processes_share_the_work_and_both_get_all(tower, images, tmp_path):
    code = (
        "import sys, numpy as np; from mgll.evaluation.features import features_of\n"
        "from mgll.evaluation.towers import tower_file; import os\n"
        "found = features_of(tower_file(sys.argv[1]), sys.argv[3:], sys.argv[2] + '/cache', together=True)\n"
        "np.save(sys.argv[2] + f'/{os.environ[\"RANK\"]}.npy', found)"
    )
    for part in (images[:7], images):  # the second time there is something left to do
        started = launches.start_several(2, ["-c", code, tower.path, tmp_path, *part], tmp_path / "said")
        for process in started:
            process.join(200)
            assert process.exitcode == 0, (tmp_path / "said").read_text()
    expected = features_of(closed(tower), images, tmp_path / "cache")
    np.testing.assert_allclose(expected, tower_features(tower.path, images), atol=1e-5)
    for rank in range(2):
        np.testing.assert_array_equal(np.load(tmp_path / f"{rank}.npy"), expected)
    assert all(list((tmp_path / "cache").glob(f"*/images-{rank}.txt")) for rank in range(2))
