"""Folders of radiographs written with pydicom: ids hashed, what is left out is told, and a changed file is converted anew."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pydicom")
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from radiographs import radiograph

from mgll.manifest.records import read_manifest
from mgll.readers.dicom_pixels import grey_pixels
from mgll.readers.midrc_xray import main


@pytest.fixture
def ramp() -> np.ndarray:
    """Twelve bits in sixteen."""
    return np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def write(folder, name, dataset) -> None:
    dataset.save_as(folder / name, enforce_file_format=True)


@pytest.fixture
def folder(tmp_path, ramp):
    source = tmp_path / "dicom"
    source.mkdir()
    write(source, "one", radiograph(ramp, 12))
    write(source, "two.dcm", radiograph(ramp, 12, SeriesDescription="", Modality="CR"))
    write(source, "three.dcm", radiograph(ramp[:, :32].copy(), 12, PatientID="patient-8"))
    write(source, "ct.dcm", radiograph(ramp, 12, Modality="CT"))
    write(source, "nobody.dcm", radiograph(ramp, 12, PatientID=""))
    write(source, "named.dcm", radiograph(ramp, 12, BurnedInAnnotation="YES"))
    write(source, "frames.dcm", radiograph(np.stack([ramp, ramp]), 12, NumberOfFrames=2))
    (source / "readme.txt").write_text("no DICOM file, but a text that is longer than the preamble of one. " * 5)
    return tmp_path


def convert(folder, *flags):
    out = folder / "xray" / "manifest.jsonl"
    assert main([str(folder / "dicom"), "--out", str(out), *flags]) == 0
    return out, list(read_manifest(out))


def test_a_folder_of_dicom_files_becomes_png_files_and_a_manifest(folder, ramp, capsys):
    out, records = convert(folder, "--salt-file", str(folder / "salt.txt"))
    by_size = {Image.open(record.image).size: record for record in records}
    assert len(records) == 3
    assert {record.texts["modality"] for record in records} == {("DX",), ("CR",)}
    assert by_size[32, 64].texts == {"modality": ("DX",), "study": ("XR CHEST AP",), "series": ("PA",)}
    assert sum("series" not in record.texts for record in records) == 1
    assert len({record.group for record in records}) == 2
    assert np.array_equal(
        np.asarray(Image.open(by_size[32, 64].image)), grey_pixels(radiograph(ramp[:, :32].copy(), 12))
    )
    told = capsys.readouterr().out
    for reason in ("modality CT", "no PatientID", "BurnedInAnnotation is YES", "2 frames", "not a DICOM file"):
        assert f"  {reason}" in told
    assert "frames.dcm: 2 frames" in (out.parent / "images" / "left_out.txt").read_text()


def test_no_name_and_no_id_is_written(folder):
    out, records = convert(folder, "--salt-file", str(folder / "salt.txt"))
    written = b"".join(path.read_bytes() for path in out.parent.rglob("*") if path.suffix in (".png", ".jsonl"))
    assert b"Doe" not in written
    assert b"patient-" not in written
    assert (folder / "salt.txt").stat().st_mode & 0o077 == 0
    again = [record.group for record in convert(folder, "--salt-file", str(folder / "salt.txt"))[1]]
    assert again == [record.group for record in records]
    (folder / "other.txt").write_text("another salt of some length")
    assert not {record.group for record in convert(folder, "--salt-file", str(folder / "other.txt"))[1]} & set(again)
    kept = convert(folder, "--keep-patient-ids")[1]
    assert {record.group for record in kept} == {"patient-7", "patient-8"}


@pytest.mark.slow
def test_a_conversion_goes_on_and_scales_down(folder):
    _, records = convert(folder, "--keep-patient-ids", "--workers", "2")
    before = {record.image: Path(record.image).stat().st_mtime_ns for record in records}
    _, again = convert(folder, "--keep-patient-ids")
    assert {record.image: Path(record.image).stat().st_mtime_ns for record in again} == before
    _, smaller = convert(folder, "--keep-patient-ids", "--longest-side", "16")
    assert sorted(Image.open(record.image).size for record in smaller) == [(8, 16), (16, 16), (16, 16)]


def test_a_corrected_file_is_converted_anew_and_told(folder, ramp, capsys):
    _, records = convert(folder, "--keep-patient-ids")
    one = next(
        record for record in records if record.texts.get("modality") == ("DX",) and "PA" in record.texts["series"]
    )
    before = {record.image: Path(record.image).stat().st_mtime_ns for record in records}
    original = dcmread(folder / "dicom" / "one")
    assert convert(folder, "--keep-patient-ids")[1] == records
    assert "converted anew" not in capsys.readouterr().out
    original.PhotometricInterpretation = "MONOCHROME1"
    original.save_as(folder / "dicom" / "one")
    _, again = convert(folder, "--keep-patient-ids")
    assert (
        "converted anew, because the DICOM file or the way to convert it has changed: 1 images"
        in capsys.readouterr().out
    )
    changed = [record.image for record in again if Path(record.image).stat().st_mtime_ns != before[record.image]]
    assert len(changed) == 1
    assert np.array_equal(np.asarray(Image.open(changed[0])), grey_pixels(original))
    assert one.image in {record.image for record in again}


def test_images_of_an_older_release_are_converted_anew(folder, ramp, capsys):
    _, records = convert(folder, "--keep-patient-ids")
    for record in records:
        Image.new("L", Image.open(record.image).size).save(record.image)
    Path(records[0].image).write_bytes(b"half a file")
    convert(folder, "--keep-patient-ids")
    assert (
        "converted anew, because the DICOM file or the way to convert it has changed: 3 images"
        in capsys.readouterr().out
    )
    assert all(np.asarray(Image.open(record.image)).max() == 255 for record in records)


def test_two_files_with_one_id_keep_the_first_whatever_runs_before(folder, ramp, capsys):
    other = dcmread(folder / "dicom" / "one")
    other.PhotometricInterpretation = "MONOCHROME1"
    other.save_as(folder / "dicom" / "one-more")
    for _ in range(2):
        _, records = convert(folder, "--keep-patient-ids")
        told = capsys.readouterr().out
        assert "an image with this SOPInstanceUID came before: 1 images" in told
        assert "converted anew" not in told
        shown = [np.asarray(Image.open(record.image)) for record in records]
        assert sum(np.array_equal(image, grey_pixels(radiograph(ramp, 12))) for image in shown) == 2


def test_an_image_whose_file_is_left_out_now_is_told(folder, capsys):
    convert(folder, "--keep-patient-ids")
    withdrawn = dcmread(folder / "dicom" / "one")
    withdrawn.BurnedInAnnotation = "YES"
    withdrawn.save_as(folder / "dicom" / "one")
    out, records = convert(folder, "--keep-patient-ids")
    assert len(records) == 2
    told = capsys.readouterr().out
    assert f"though a PNG file of an earlier run is still in {out.parent / 'images'}: 1 images" in told


def test_what_was_read_otherwise_is_told_again_when_nothing_is_converted(folder, ramp, capsys):
    write(folder / "dicom", "wide.dcm", radiograph(ramp * 8, 12))
    for _ in range(2):
        convert(folder, "--keep-patient-ids")
        assert (
            "read with all bits, because values exceed the 12 that BitsStored says: 1 images" in capsys.readouterr().out
        )


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_decoder_that_crashes_takes_one_file_along(folder, ramp, capsys, workers):
    """GDCM ends its process over a JPEG-LS file that says 127 bits a sample, and over one with half a header."""
    for number, (place, value) in enumerate([(6, 127), (10, 0)]):
        dataset = dcmread(get_testdata_file("MR_small_jpeg_ls_lossless.dcm", download=False))
        frame = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
        frame[place] = value
        dataset.PixelData = encapsulate([bytes(frame)])
        dataset.Modality, dataset.SOPInstanceUID = "DX", f"1.2.3.{number}"
        write(folder / "dicom", f"o{number}.dcm", dataset)
    out, records = convert(folder, "--keep-patient-ids", "--workers", workers)
    assert len(records) == 3
    left = (out.parent / "images" / "left_out.txt").read_text()
    for number in range(2):
        assert f"o{number}.dcm: the decoder crashes over the pixels" in left or f"o{number}.dcm: pixels can't" in left


# --- errors of the machine


def stopped(folder, capsys) -> str:
    """What the command says last when the machine fails, without a manifest and with status 1."""
    out = folder / "xray" / "manifest.jsonl"
    assert main([str(folder / "dicom"), "--out", str(out), "--keep-patient-ids"]) == 1
    assert not out.exists()
    told = capsys.readouterr()
    assert not told.out
    return told.err.splitlines()[-1]


def test_a_full_disk_stops_the_conversion(folder, capsys):
    _, records = convert(folder, "--keep-patient-ids")
    (folder / "xray" / "manifest.jsonl").unlink()
    capsys.readouterr()
    image = Path(records[1].image)
    image.unlink()
    image.with_name(f".{image.name}.{socket.gethostname()}-{os.getpid()}.tmp").symlink_to("/dev/full")
    assert "No space left on device" in stopped(folder, capsys)


@pytest.mark.slow
def test_a_file_beyond_the_limit_of_the_system_stops_the_conversion(folder):
    """As a quota does: the second image and all further ones can't be written."""
    code = (
        "import resource, sys; from mgll.readers.midrc_xray import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300)); sys.exit(main(sys.argv[1:]))"
    )
    arguments = [str(folder / "dicom"), "--out", str(folder / "m.jsonl"), "--keep-patient-ids"]
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "File too large" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert not (folder / "m.jsonl").exists()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file whose reading fails is needed")
def test_a_drive_that_fails_stops_the_conversion(folder, capsys):
    (folder / "dicom" / "zz").symlink_to("/proc/self/mem")  # its first page can't be read: EIO, as from a broken drive
    assert "input/output error" in stopped(folder, capsys)


@pytest.fixture
def no_rights() -> Iterator[None]:
    """For root, who may read everything: another user's rights."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    yield
    if was_root:
        os.seteuid(0)


def test_files_and_folders_that_may_not_be_read_stop_the_conversion(folder, capsys, no_rights):
    """Neither a damaged file nor an empty folder. Of root's temporary folders, another user may not read the first already."""
    if os.getuid():
        (folder / "dicom" / "one").chmod(0)
    assert main([str(folder / "dicom"), "--out", str(folder / "m.jsonl"), "--keep-patient-ids"]) == 1
    assert "permission denied" in capsys.readouterr().err


def test_links_to_nowhere_and_pipes_are_told(folder, capsys):
    (folder / "dicom" / "annexed.dcm").symlink_to(folder / "not-fetched")
    os.mkfifo(folder / "dicom" / "pipe")
    convert(folder, "--keep-patient-ids")
    assert "a link to nowhere, or no regular file: 2 images" in capsys.readouterr().out


def test_a_short_salt_is_refused(folder, capsys):
    (folder / "salt.txt").write_text("pepper")
    assert main([str(folder / "dicom"), "--out", str(folder / "m.jsonl"), "--salt-file", str(folder / "salt.txt")]) == 1
    assert "a salt of 6 bytes" in "".join(capsys.readouterr())
