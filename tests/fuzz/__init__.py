"""Seeded, bounded fuzzing of a live server: `python -m tests.fuzz --cases 10000`."""
