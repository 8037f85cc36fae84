"""How good the answers are: known evaluation harnesses, asking a running server over its OpenAI API."""
