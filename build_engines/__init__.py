"""Checkpoint → artifacts: what `make engines` runs. See `python -m build_engines --help`."""
