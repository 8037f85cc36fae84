"""How the random checkpoint is asked to "Go on." at length: no answer ends before a test has interrupted it."""

# Sampled hot it seldom ends by itself; with this seed it goes on to the end (tests/e2e/test_streams.py).
LONG = {"max_tokens": 1024, "temperature": 1.5, "seed": 7}
