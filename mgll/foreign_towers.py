"""The old name of the command `python -m mgll.published`, kept for one release."""

import sys
from runpy import run_module

if __name__ == "__main__":
    print("mgll.foreign_towers is mgll.published now; the old name goes with the next release", file=sys.stderr)
    run_module("mgll.published", run_name="__main__", alter_sys=True)
