"""Evaluates answers: known harnesses ask a running server over its OpenAI API."""
