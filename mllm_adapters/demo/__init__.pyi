from .host import build_demo_host, demo_checkpoint
from .reading import reads_in_words
from .settings import DecoderTraining, DemoHostSettings, ReadingTraining
from .tiny_hosts import TINY_HOSTS, build_tiny_host

__all__ = [
    "TINY_HOSTS",
    "DecoderTraining",
    "DemoHostSettings",
    "ReadingTraining",
    "build_demo_host",
    "build_tiny_host",
    "demo_checkpoint",
    "reads_in_words",
]
