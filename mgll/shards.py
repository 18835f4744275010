"""The old name of the command `python -m mgll.manifest.shards`, kept for one release."""

import sys
from runpy import run_module

if __name__ == "__main__":
    print("mgll.shards is mgll.manifest.shards now; the old name goes with the next release", file=sys.stderr)
    run_module("mgll.manifest.shards", run_name="__main__", alter_sys=True)
