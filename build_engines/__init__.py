"""Builds engines from a checkpoint; `make engines` runs it. See `python -m build_engines --help`."""
