"""The recipes: scripts that train, compare and report, each typed as `python recipes/NAME.py` or `mgll NAME`."""
