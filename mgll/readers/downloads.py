"""What there is to download, by field: the data sets that have a reader of their own."""

from collections.abc import Iterator

from mgll.readers.adam import ADAM
from mgll.readers.aptos import APTOS
from mgll.readers.chestxray14 import CHESTXRAY14
from mgll.readers.chexpert import CHEXPERT
from mgll.readers.covidx import COVIDX
from mgll.readers.ddr import DDR
from mgll.readers.fives import FIVES
from mgll.readers.idrid import IDRID
from mgll.readers.messidor2 import MESSIDOR2
from mgll.readers.midrc_downstream import MIDRC_XR, MIDRC_XR_PORTABLE
from mgll.readers.odir import ODIR
from mgll.readers.organamnist import ORGANAMNIST
from mgll.readers.palm import PALM
from mgll.readers.published_set import Download
from mgll.readers.refuge import REFUGE
from mgll.readers.rfmid import RFMID
from mgll.readers.rim_one import RIM_ONE

#: Those of the paper's downstream data sets, and those that others evaluate on, by field.
SETS = (
    *(FIVES, IDRID, DDR, ADAM, PALM, REFUGE, RIM_ONE, RFMID, ODIR, APTOS, MESSIDOR2),
    *(MIDRC_XR, MIDRC_XR_PORTABLE, CHESTXRAY14, CHEXPERT, COVIDX, ORGANAMNIST),
)
#: Those that are pretrained on.
PRETRAINING = (
    Download(
        "MGLL-Fundus",
        "mgll_fundus",
        "fundus photographs",
        "the lists and npz files of MGLL's authors",
        "that of each source",
    ),
    Download(
        "MIDRC",
        "midrc_xray",
        "radiographs",
        "DICOM files at https://data.midrc.org (registration)",
        "MIDRC data use agreement",
    ),
    Download(
        "MIMIC-CXR",
        "mimic_cxr",
        "radiographs",
        "MIMIC-CXR-JPG and the reports of MIMIC-CXR at https://physionet.org/content/mimic-cxr-jpg and /mimic-cxr (training)",
        "PhysioNet Credentialed Health Data License 1.5.0",
    ),
)
#: Those that are segmented.
MASKS = (
    Download("REFUGE", "masks refuge", "masks", "the images of 2018 with Disc_Cup_Masks, as above", "as REFUGE above"),
    Download(
        "IDRiD",
        "masks idrid",
        "masks",
        "A. Segmentation at https://ieee-dataport.org/open-access/indian-diabetic-retinopathy-image-dataset-idrid",
        "CC BY 4.0",
    ),
    Download(
        "QaTa-COV19",
        "masks qata",
        "masks",
        "QaTa-COV19-v2 at https://www.kaggle.com/datasets/aysendegerli/qatacov19-dataset (registration); texts and Val_ID.xlsx, if"
        " wanted, as https://github.com/HUANGLIZI/LViT says",
        "as its page says",
    ),
)


def downloads_told() -> Iterator[str]:
    """The list as lines: field, then name, command, what to download and its licence."""
    known = [*(own.download for own in SETS), *PRETRAINING, *MASKS]
    for field in dict.fromkeys(download.field for download in known):
        yield field
        for own in (download for download in known if download.field == field):
            yield f"  {own.name}: python -m mgll.readers.{own.reader} FOLDER --out manifest.jsonl"
            yield f"      {own.what}"
            yield f"      licence: {own.licence}"
    yield "any other"
    yield "  a folder with a table: python -m mgll.readers.folder_csv FOLDER --table T.csv --image COLUMN --level LEVEL=COLUMN"
    yield "  WebDataset shards: python -m mgll.readers.webdataset_shards SHARD.tar ... --level LEVEL=FIELD"
    yield "Licences are as their pages state them, and may change: read them there."
