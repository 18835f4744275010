from .finetune_record import FinetuneRecord, read_finetune
from .graft_record import Graft, read_graft
from .host import Host, LoadedHost, Plan
from .prompts import EncodedPrompts
from .terms import GraftSettings, HostError, NewTensor, Source
from .tower_spec import TowerSpec

__all__ = [
    "EncodedPrompts",
    "FinetuneRecord",
    "Graft",
    "GraftSettings",
    "Host",
    "HostError",
    "LoadedHost",
    "NewTensor",
    "Plan",
    "Source",
    "TowerSpec",
    "read_finetune",
    "read_graft",
]
