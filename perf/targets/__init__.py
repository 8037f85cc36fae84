"""Performance targets: `python -m perf.targets NAME…` measures them, without names all."""
