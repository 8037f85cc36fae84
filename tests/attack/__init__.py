"""Attacks on a running server: each is played against a real one while honest clients go on asking."""
