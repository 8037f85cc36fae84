"""What `stalling_source.py` writes and `stalls.py` expects."""

PARTS = ("I can hear a dog, ", "and there is a car behind the ", "house. It is late ")
STALL_S = 1.0  # after each part
TOKEN_S = 0.02
TALKER_TOKENS = 1000  # `max_tokens` of a stream that goes on without a stop
TALKER_TOKEN_S = 0.1
