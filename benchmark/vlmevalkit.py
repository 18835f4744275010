"""The old name of the command `python -m benchmark.harnesses.vlmevalkit`, kept for one release."""

import sys
from runpy import run_module

if __name__ == "__main__":
    print(
        "benchmark.vlmevalkit is benchmark.harnesses.vlmevalkit now; the old name goes with the next release",
        file=sys.stderr,
    )
    run_module("benchmark.harnesses.vlmevalkit", run_name="__main__", alter_sys=True)
