"""The old name of `benchmark.harnesses.lmms_eval_model`, kept for one release."""

from benchmark.harnesses.lmms_eval_model import *  # noqa: F403 - an entry point of an older install names it
