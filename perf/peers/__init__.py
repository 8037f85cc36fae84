"""Measures other servers of the same checkpoint beside this one, in one run."""
