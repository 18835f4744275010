"""The old name of the command `python -m benchmark.fundus_hash.calibration`, kept for one release."""

import sys
from runpy import run_module

if __name__ == "__main__":
    print(
        "benchmark.fundus_hash_calibration is benchmark.fundus_hash.calibration now; the old name goes with the next release",
        file=sys.stderr,
    )
    run_module("benchmark.fundus_hash.calibration", run_name="__main__", alter_sys=True)
