"""Greys of radiographs written with pydicom: what headers get wrong is mended where the pixels tell, else left out by a reason."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pydicom")
import pydicom
from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
)
from radiographs import radiograph

from mgll.images.files import ImageError
from mgll.images.preprocessing import open_image
from mgll.readers.dicom_pixels import grey_pixels

CASES = Path(__file__).resolve().parents[4] / "shared" / "cases" / "dicom"


@pytest.fixture
def ramp() -> np.ndarray:
    """Twelve bits in sixteen."""
    return np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def as_written(dataset: Dataset) -> Dataset:
    """The data set as it comes back from a file."""
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    stream.seek(0)
    return dcmread(stream)


def lookup_table(data: list[int] | bytes, bits: int, first: int = 0, entries: int = 4096) -> Dataset:
    table = Dataset()
    table.LUTDescriptor = [entries % (1 << 16), first, bits]
    table.add_new("LUTData", "OW" if isinstance(data, bytes) else "US", data)
    return table


def expected(values: np.ndarray) -> np.ndarray:
    """Greys of values that are shown over their whole range."""
    low, high = float(values.min()), float(values.max())
    return np.rint((values - low) * (255 / (high - low))).astype(np.uint8)


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


@pytest.mark.parametrize(
    ("name", "falls"),
    [
        ("00_plain", False),
        ("00_plain__jpegext", False),
        ("08_slope_none", False),
        ("13_plut_inverse_m2", True),
        ("14_plut_inverse_m1", True),
        ("18_pad_signed_us", False),
        ("19_pad_signed_ss", False),
        ("22_voilut_8bit_data", False),
        ("44_bitsstored_wrong", False),
        ("58_hot_pixel16", False),
    ],
)
def test_files_that_failed_once_give_their_ramp(name, falls):
    if not CASES.is_dir():
        pytest.skip(f"the files are not at {CASES}")
    grey = grey_pixels(dcmread(CASES / f"{name}.dcm"))[32].astype(int)
    steps = np.diff(grey if not falls else grey[::-1])
    assert (steps >= 0).all()
    assert grey.max() - grey.min() >= 250


# --- which bits hold the image


def test_values_above_the_stored_bits_are_read_and_told(ramp):
    notes: Counter[str] = Counter()
    grey = grey_pixels(radiograph(ramp * 8, 12), notes=notes)
    assert np.array_equal(grey, expected(ramp))
    assert notes == {"read with all bits, because values exceed the 12 that BitsStored says": 1}


def test_a_high_bit_of_15_tells_where_twelve_bits_lie(ramp):
    notes: Counter[str] = Counter()
    assert np.array_equal(grey_pixels(radiograph(ramp << 4, 12, HighBit=15), notes=notes), expected(ramp))
    assert not notes
    assert np.array_equal(grey_pixels(radiograph(ramp, 12, HighBit=15), notes=notes), expected(ramp))
    assert notes == {"read from the lower bits, though HighBit says 15 for 12 bits": 1}


def test_signed_values_without_their_sign_in_the_unused_bits(ramp):
    signed = ramp.astype(np.int16) - 2048
    assert np.array_equal(grey_pixels(radiograph(signed, 12)), expected(ramp))
    assert np.array_equal(grey_pixels(radiograph(signed & 0x0FFF, 12)), expected(ramp))
    assert np.array_equal(grey_pixels(radiograph(signed << 4, 12, HighBit=15)), expected(ramp))


def test_an_overlay_in_the_unused_bits_is_no_image(ramp):
    covered = ramp.copy()
    covered[20:30] |= 0x1000
    dataset = radiograph(covered, 12)
    dataset.add_new((0x6000, 0x0102), "US", 12)
    assert np.array_equal(grey_pixels(dataset), expected(ramp))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int32])
def test_other_depths(ramp, dtype):
    values = (ramp >> 4 if dtype == np.uint8 else ramp).astype(dtype)
    assert np.array_equal(grey_pixels(radiograph(values, values.itemsize * 8)), expected(values))


@pytest.mark.parametrize("hot", [65535, 8000, 0])
def test_a_few_outliers_do_not_eat_the_range(ramp, hot):
    notes: Counter[str] = Counter()
    values = ramp + 1000
    values[5, [3, 40, 41]] = hot
    grey = grey_pixels(radiograph(values, 16), notes=notes)
    others = np.ones_like(grey, dtype=bool)
    others[5, [3, 40, 41]] = False
    assert np.abs(grey.astype(int) - expected(ramp))[others].max() <= 1
    assert [note for note in notes if "hot or dead" in note]


def test_a_bright_thing_of_some_size_is_no_outlier(ramp):
    values = ramp.copy()
    values[:4, :4] = 60000
    assert grey_pixels(radiograph(values, 16))[60, 60] < 20


# --- rescaling, tables and windows


@pytest.mark.parametrize(
    "fields",
    [
        {"RescaleSlope": None, "RescaleIntercept": None},
        {"RescaleSlope": None, "RescaleIntercept": -1000},
        {"RescaleSlope": 2, "RescaleIntercept": None},
        {"RescaleSlope": ""},
        {"RescaleIntercept": "0"},
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": 100},
        {"VOILUTSequence": [], "ModalityLUTSequence": []},
        {"PixelPaddingValue": None},
        {"VOILUTFunction": "", "WindowCenter": 2047.5, "WindowWidth": 4096},
        {"NumberOfFrames": None, "PresentationLUTShape": ""},
        {"HighBit": None},
    ],
)
def test_empty_fields_are_missing_ones(ramp, fields):
    grey = grey_pixels(as_written(radiograph(ramp, 12, **fields)))
    assert np.abs(grey.astype(int) - expected(ramp)).max() <= 1


@pytest.mark.parametrize(
    "fields", [{"RescaleSlope": 0, "RescaleIntercept": 3}, {"RescaleSlope": "1", "RescaleIntercept": "x"}]
)
def test_a_slope_that_cannot_be_is_a_reason(ramp, fields):
    dataset = radiograph(ramp, 12)
    with pydicom.config.disable_value_validation():
        for name, value in fields.items():
            setattr(dataset, name, value) if value != "x" else dataset.add_new(name, "LO", value)
    with pytest.raises(ImageError, match=r"RescaleSlope 0|pixels can't be decoded"):
        grey_pixels(dataset)


def test_a_table_of_eight_bits_and_4096_entries(ramp):
    words, packed = [value >> 4 for value in range(4096)], bytes(value >> 4 for value in range(4096))
    for data in (words, np.asarray(words, "<u2").tobytes(), packed):
        dataset = as_written(radiograph(ramp, 12, VOILUTSequence=[lookup_table(data, 8)]))
        assert np.array_equal(grey_pixels(dataset), ramp >> 4)


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
def test_tables_of_every_depth_fall_where_they_say_so(ramp, name, bits):
    data = [(4095 - value) >> max(0, 12 - bits) for value in range(4096)]
    grey = grey_pixels(as_written(radiograph(ramp, 12, **{name: [lookup_table(data, bits)]})))
    assert np.abs(grey.astype(int) - (255 - expected(ramp))).max() <= 1


@pytest.mark.parametrize("first", [-2048, 63488])
def test_the_first_value_of_a_table_is_signed_where_pixels_are(ramp, first):
    table = lookup_table(list(range(4096)), 16)
    table.add_new("LUTDescriptor", "SS" if first < 0 else "US", [4096, first, 16])
    dataset = radiograph(ramp.astype(np.int16) - 2048, 16, VOILUTSequence=[table])
    assert np.array_equal(grey_pixels(dataset), expected(ramp))


def test_a_table_of_65536_entries(ramp):
    data = np.arange(1 << 16, dtype="<u2").tobytes()
    grey = grey_pixels(as_written(radiograph(ramp * 16, 16, VOILUTSequence=[lookup_table(data, 16, entries=1 << 16)])))
    assert np.array_equal(grey, expected(ramp))


def test_a_table_that_is_too_short_is_a_reason(ramp):
    with pytest.raises(ImageError, match="a lookup table of 100 entries that says it has 4096"):
        grey_pixels(radiograph(ramp, 12, VOILUTSequence=[lookup_table(list(range(100)), 16)]))


def test_a_table_that_shows_black_and_white_only_gives_way_to_the_window_or_is_a_reason(ramp):
    table = lookup_table(list(range(100)), 8, entries=100)
    grey = grey_pixels(radiograph(ramp, 12, VOILUTSequence=[table], WindowCenter=2048, WindowWidth=4096))
    assert np.abs(grey.astype(int) - expected(ramp)).max() <= 1
    with pytest.raises(ImageError, match="its VOI LUT shows hardly more than black and white"):
        grey_pixels(radiograph(ramp, 12, VOILUTSequence=[table]))


@pytest.mark.parametrize("function", ["SIGMOID", "LINEAR_EXACT", "LINEAR"])
def test_every_function_of_a_window_rises(ramp, function):
    grey = grey_pixels(radiograph(ramp, 12, WindowCenter=2048, WindowWidth=1000, VOILUTFunction=function)).astype(int)
    assert (np.diff(grey.reshape(-1)) >= 0).all()
    assert (grey.min(), grey.max()) == (0, 255)
    assert abs(grey[ramp == 2048][0] - 128) <= 1
    assert 20 < grey[ramp == 1700][0] < 70


@pytest.mark.parametrize(
    ("centre", "width", "function"),
    [
        (2048, 0, "LINEAR"),
        (2048, 1, "LINEAR"),
        (2048, 1.5, "LINEAR"),
        (2048, -5, "LINEAR"),
        (2048, 0, "LINEAR_EXACT"),
        (2048, 0.5, "LINEAR_EXACT"),
        (2048, 0, "SIGMOID"),
        (2048, 1, "SIGMOID"),
        (40000, 100, "LINEAR"),
        (0.5, 1.0, "LINEAR_EXACT"),
    ],
)
def test_a_window_that_shows_black_and_white_only_is_not_applied_and_told(ramp, centre, width, function):
    notes: Counter[str] = Counter()
    dataset = radiograph(ramp, 12, WindowCenter=centre, WindowWidth=width, VOILUTFunction=function)
    assert np.array_equal(grey_pixels(dataset, notes=notes), expected(ramp))
    assert notes == {"read over the whole range, because the window shows hardly more than black and white": 1}


def test_a_window_of_twelve_bits_over_values_of_sixteen_is_not_applied(ramp):
    dataset = radiograph(ramp * 16, 12, WindowCenter=1024, WindowWidth=2048)
    assert np.array_equal(grey_pixels(dataset), expected(ramp))


def test_an_unknown_function_is_a_reason(ramp):
    with pytest.raises(ImageError, match="VOI LUT Function value 'CUBIC'"):
        grey_pixels(radiograph(ramp, 12, WindowCenter=2048, WindowWidth=1000, VOILUTFunction="CUBIC"))


# --- negatives


@pytest.mark.parametrize(
    ("photometric", "shape", "falls"),
    [
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", None, True),
        ("monochrome1 ", "inverse ", True),
    ],
)
def test_a_negative_is_turned_over_once(ramp, photometric, shape, falls):
    with pydicom.config.disable_value_validation():
        dataset = radiograph(ramp, 12, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    assert np.array_equal(grey_pixels(dataset), 255 - expected(ramp) if falls else expected(ramp))


def test_what_contradicts_itself_is_left_out(ramp):
    with pytest.raises(ImageError, match="IDENTITY contradicts MONOCHROME1"):
        grey_pixels(radiograph(ramp, 12, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="IDENTITY"))
    with pytest.raises(ImageError, match=r"a presentation LUT \(LIN OD\) is not applied"):
        grey_pixels(radiograph(ramp, 12, PresentationLUTShape="LIN OD"))
    with pytest.raises(ImageError, match=r"a presentation LUT \(a table\) is not applied"):
        grey_pixels(radiograph(ramp, 12, PresentationLUTSequence=[lookup_table(list(range(4096)), 16)]))


# --- padding


@pytest.mark.parametrize(
    ("pixels", "tagged", "vr"),
    [("i2", -2000, "SS"), ("i2", 63536, "US"), ("u2", 63536, "US"), ("u2", -2000, "SS")],
)
def test_padding_is_found_whichever_sign_it_is_tagged_with(ramp, pixels, tagged, vr):
    padded = ramp.astype(pixels)
    padded[:10] = -2000 if pixels == "i2" else 63536
    dataset = radiograph(padded, 16)
    dataset.add_new("PixelPaddingValue", vr, tagged)
    grey = grey_pixels(dataset)
    assert grey[:10].max() == 0
    assert np.array_equal(grey[10:], expected(ramp[10:]))


def test_a_range_of_padding_and_padding_beyond_the_stored_bits(ramp):
    padded = ramp // 2 + 1000
    padded[:5], padded[5:10] = 4000, 4095
    for first, last in ((4000, 4095), (4095, 4000)):
        grey = grey_pixels(radiograph(padded, 12, PixelPaddingValue=first, PixelPaddingRangeLimit=last))
        assert grey[:10].max() == 0
        assert np.array_equal(grey[10:], expected(ramp[10:] // 2))
    padded[:10] = 65535
    notes: Counter[str] = Counter()
    assert np.array_equal(
        grey_pixels(radiograph(padded, 12, PixelPaddingValue=65535), notes=notes)[10:], expected(ramp[10:] // 2)
    )
    assert not notes


def test_nothing_but_padding_is_a_reason(ramp):
    with pytest.raises(ImageError, match="every pixel is padding"):
        grey_pixels(radiograph(np.full_like(ramp, 7), 12, PixelPaddingValue=7))


# --- how the pixels are written


def test_transfer_syntaxes_that_write_no_codestream(ramp):
    values, table = ramp[::-1].copy(), lookup_table(np.arange(4096, dtype="<u2").tobytes(), 12)
    plain = radiograph(values, 12, VOILUTSequence=[table])
    plain.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert np.array_equal(grey_pixels(as_written(plain)), expected(values))
    big = radiograph(values.astype(">u2"), 12)
    for data in (np.arange(4096, dtype=">u2").tobytes(), [value >> 4 for value in range(4096)]):
        big.VOILUTSequence = [lookup_table(data, 12)]
        big.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        stream = io.BytesIO()
        dcmwrite(stream, big, implicit_vr=False, little_endian=False, enforce_file_format=True)
        stream.seek(0)
        assert np.abs(grey_pixels(dcmread(stream)).astype(int) - expected(values)).max() <= 1


def sample(name: str) -> Dataset:
    """A file that travels with pydicom."""
    return dcmread(get_testdata_file(name, download=False))


@pytest.mark.parametrize("name", ["jpeg_ls_lossless", "jp2klossless", "RLE", "implicit", "bigendian", "expb"])
def test_the_same_image_in_every_transfer_syntax_gives_the_same_greys(name):
    assert np.array_equal(grey_pixels(sample(f"MR_small_{name}.dcm")), grey_pixels(sample("MR_small.dcm")))


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_jpeg_of_twelve_bits(name, tmp_path):
    dataset = sample(name)
    assert dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit
    grey = grey_pixels(dataset)
    assert (grey.shape, grey.min(), grey.max()) == ((dataset.Rows, dataset.Columns), 0, 255)
    assert len(np.unique(grey)) > 100
    assert np.abs(np.diff(grey.astype(int), axis=1)).mean() < 20  # neighbours are alike: no noise of a wrong depth
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    (tmp_path / "a.jpg").write_bytes(frame)
    assert open_image(tmp_path / "a.jpg").size == (dataset.Columns, dataset.Rows)
    dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    with pytest.raises(ImageError, match="a damaged JPEG file of 12 bits"):
        grey_pixels(dataset)
    dataset.PixelData, dataset.Rows = encapsulate([frame]), dataset.Rows - 1
    with pytest.raises(ImageError, match=r"the JPEG image is .* x .*, the header says"):
        grey_pixels(dataset)


@pytest.mark.parametrize("name", ["MR_small", "MR_small_jpeg_ls_lossless", "MR_small_jp2klossless", "MR_small_RLE"])
def test_pixels_that_are_cut_short_are_a_reason(name):
    dataset = sample(f"{name}.dcm")
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]
    else:
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    with pytest.raises(ImageError):
        grey_pixels(dataset)


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_jpeg_file_of_eight_bits_that_is_cut_short_is_a_reason(ramp, keep):
    stream = io.BytesIO()
    Image.fromarray((ramp >> 4).astype(np.uint8)).save(stream, format="JPEG", quality=95)
    frame = stream.getvalue()
    dataset = radiograph((ramp >> 4).astype(np.uint8), 8, PixelData=encapsulate([frame]))
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    assert np.abs(grey_pixels(dataset).astype(int) - expected(ramp >> 4)).max() <= 8
    dataset.PixelData = encapsulate([frame[: int(len(frame) * keep)]])
    with pytest.raises(ImageError):
        grey_pixels(dataset)


# --- what is no radiograph


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"PresentationIntentType": "FOR PROCESSING"}, "FOR PROCESSING: the raw values of a detector"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}, "FOR PROCESSING: the raw values of a detector"),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation missing"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PhotometricInterpretation PALETTE COLOR"),
        ({"SamplesPerPixel": 3}, "SamplesPerPixel 3"),
        ({"PixelData": None}, "no pixels"),
        ({"BitsAllocated": 1}, "BitsAllocated 1; a radiograph has 8, 16 or 32"),
        ({"BitsAllocated": None}, "BitsAllocated missing"),
        ({"BitsStored": None}, "pixels can't be decoded"),
        ({"BitsStored": 20}, "pixels can't be decoded"),
        ({"PixelRepresentation": None}, "pixels can't be decoded"),
        ({"Rows": None}, "64 x 0 is not between"),
        ({"PixelPaddingValue": b"xyz"}, "pixels can't be decoded"),
        ({"RescaleSlope": [1, 2]}, "pixels can't be decoded"),
    ],
)
def test_headers_that_say_no_radiograph_say_why(ramp, fields, message):
    with pytest.raises(ImageError, match=message):
        grey_pixels(radiograph(ramp, 12, **fields))


def test_floating_point_pixels_are_named(ramp):
    dataset = radiograph(ramp, 12)
    del dataset.PixelData
    dataset.FloatPixelData = ramp.astype(np.float32).tobytes()
    with pytest.raises(ImageError, match="FloatPixelData; a radiograph has PixelData"):
        grey_pixels(dataset)
