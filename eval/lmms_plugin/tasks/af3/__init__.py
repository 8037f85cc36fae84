"""Tasks for lmms-eval: a file of settings for each, and what they ask and read."""
