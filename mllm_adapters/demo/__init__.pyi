from .host import build_demo_host, demo_checkpoint
from .settings import DecoderTraining, DemoHostSettings

__all__ = [
    "DecoderTraining",
    "DemoHostSettings",
    "build_demo_host",
    "demo_checkpoint",
]
