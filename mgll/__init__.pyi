from .encoders.vision import vision_encoder
from .images.preprocessing import Preprocessing
from .linear_probe import probe_tower
from .manifest.records import Record, read_manifest, write_manifest
from .objective import Level, Objective
from .settings import ObjectiveName, ObjectiveSettings, PretrainSettings
from .tower.file import TowerHeader, load_tower, save_tower
from .training.pretraining import pretrain

__version__: str
__all__ = [
    "Level",
    "Objective",
    "ObjectiveName",
    "ObjectiveSettings",
    "Preprocessing",
    "PretrainSettings",
    "Record",
    "TowerHeader",
    "load_tower",
    "pretrain",
    "probe_tower",
    "read_manifest",
    "save_tower",
    "vision_encoder",
    "write_manifest",
]
