"""Property tests: the same cases in every run, and no clock, since a busy machine is no fault of the code."""

from hypothesis import settings

settings.load_profile("ci")
