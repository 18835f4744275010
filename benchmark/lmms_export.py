"""The old name of the command `python -m benchmark.harnesses.lmms_export`, kept for one release."""

import sys
from runpy import run_module

if __name__ == "__main__":
    print(
        "benchmark.lmms_export is benchmark.harnesses.lmms_export now; the old name goes with the next release",
        file=sys.stderr,
    )
    run_module("benchmark.harnesses.lmms_export", run_name="__main__", alter_sys=True)
