"""The old name of `benchmark.harnesses.lmms_eval_tasks`, kept for one release."""

from benchmark.harnesses.lmms_eval_tasks import *  # noqa: F403 - exported task folders name its functions
