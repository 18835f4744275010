"""Radiographs written with pydicom: window, inversion, depth, padding, compression; ids hashed, and what is left out is told."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pydicom")
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, RLELossless, generate_uid

from mgll.images.files import ImageError
from mgll.manifest.records import read_manifest
from mgll.readers.dicom_pixels import grey_pixels
from mgll.readers.midrc_xray import _main


def radiograph(pixels: np.ndarray, bits: int, **fields) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"  # explicit little endian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.PatientID, dataset.PatientName = "DX", "patient-7", "Doe^Jane"
    dataset.StudyDescription, dataset.SeriesDescription = " XR CHEST  AP", "PA"
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = pixels.itemsize * 8, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in fields.items():
        setattr(dataset, name, value)
    return dataset


@pytest.fixture
def ramp() -> np.ndarray:
    """Twelve bits in sixteen."""
    return np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def test_sixteen_bits_span_the_grey_scale(ramp):
    grey = grey_pixels(radiograph(ramp, 12))
    assert (grey.dtype, grey.shape) == (np.uint8, (64, 64))
    assert np.array_equal(grey, np.rint(ramp * (255 / 4095)).astype(np.uint8))


def test_the_window_cuts_both_ends(ramp):
    grey = grey_pixels(radiograph(ramp, 12, WindowCenter=[2048, 100], WindowWidth=[1024, 10]))
    assert (grey[ramp <= 1535].max(), grey[ramp >= 2560].min()) == (0, 255)
    assert abs(int(grey[ramp == 2048][0]) - 128) <= 1


def test_a_lookup_table_comes_before_the_window(ramp):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 16], [65535 - value * 16 for value in range(4096)]
    grey = grey_pixels(radiograph(ramp, 12, VOILUTSequence=[table], WindowCenter=100, WindowWidth=10))
    assert np.array_equal(grey, np.rint(255 - ramp * (255 / 4095)).astype(np.uint8))


def test_monochrome1_is_inverted(ramp):
    usual, inverted = (
        grey_pixels(radiograph(ramp, 12)),
        grey_pixels(radiograph(ramp, 12, PhotometricInterpretation="MONOCHROME1")),
    )
    assert np.array_equal(inverted, 255 - usual)


def test_the_window_is_in_rescaled_units(ramp):
    """A slope of 2 and an intercept of -1000 over signed pixels: the window (0, 2000] is stored values 500 to 1500."""
    signed = ramp.astype(np.int16)
    grey = grey_pixels(
        radiograph(
            signed,
            16,
            RescaleSlope=2,
            RescaleIntercept=-1000,
            WindowCenter=1000,
            WindowWidth=2000,
            VOILUTFunction="LINEAR_EXACT",
        )
    )
    assert (grey[ramp <= 500].max(), grey[ramp > 1500].min()) == (0, 255)
    assert abs(int(grey[ramp == 1000][0]) - 128) <= 1


def test_padding_is_black_and_no_part_of_the_range(ramp):
    padded = ramp // 4 + 100
    padded[:10] = 4095
    grey = grey_pixels(radiograph(padded, 12, PixelPaddingValue=4095, PhotometricInterpretation="MONOCHROME1"))
    assert grey[:10].max() == 0
    assert (grey[10:].min(), grey[10:].max()) == (0, 255)


def test_compressed_pixels_are_decoded(ramp):
    plain = grey_pixels(radiograph(ramp, 12))
    dataset = radiograph(ramp, 12)
    dataset.compress(RLELossless)
    assert np.array_equal(grey_pixels(dataset), plain)
    stream = io.BytesIO()
    Image.fromarray(ramp).save(stream, format="JPEG2000", irreversible=False, no_jp2=True)
    dataset = radiograph(ramp, 16, PixelData=encapsulate([stream.getvalue()]))
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset["PixelData"].VR = "OB"
    assert np.array_equal(grey_pixels(dataset), plain)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"NumberOfFrames": 2}, "2 frames; a radiograph has one"),
        ({"PhotometricInterpretation": "RGB"}, "PhotometricInterpretation RGB"),
        ({"Rows": 60000, "Columns": 60000}, "60000 x 60000 is not between 1 and 100 megapixels"),
        ({"Rows": 65}, "pixels can't be decoded"),
        ({"PixelData": bytes(2 * 64 * 64)}, "every pixel has the same value"),
    ],
)
def test_what_is_no_radiograph_says_why(ramp, fields, message):
    with pytest.raises(ImageError, match=message):
        grey_pixels(radiograph(ramp, 12, **fields))


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
    assert _main([str(folder / "dicom"), "--out", str(out), *flags]) == 0
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


def test_a_short_salt_is_refused(folder, capsys):
    (folder / "salt.txt").write_text("pepper")
    assert (
        _main([str(folder / "dicom"), "--out", str(folder / "m.jsonl"), "--salt-file", str(folder / "salt.txt")]) == 1
    )
    assert "a salt of 6 bytes" in capsys.readouterr().out
