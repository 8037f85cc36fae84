"""What a request costs, as far as its outline tells."""

from __future__ import annotations

from tritonclient.grpc import service_pb2

from af3 import contract
from serving.door.request_check import TEXTS, bytes_of, whole_number
from serving.door.wire_request import WireRequest

LONG_BYTES = 256 << 10  # decoding so much may take a second; ten seconds of speech are less
LONG_CLIPS = 8  # ffmpeg, which reads what libsndfile does not, starts for each: 30 ms and more
LONG_TEXT_BYTES = 32 << 10  # 65 ms of a tokenizer


def takes_long(request: WireRequest) -> bool:
    """Whether `preprocess` is busy with it for so long that short requests must not wait for it."""
    if request.size > LONG_BYTES:
        return True
    for place, tensor in enumerate(request.head.inputs):
        if tensor.name == contract.AUDIO.name and sum(tensor.shape) > LONG_CLIPS:
            return True
        if tensor.name in TEXTS and bytes_of(tensor, request.contents[place : place + 1]) > LONG_TEXT_BYTES:
            return True
    return False


def most_tokens(head: service_pb2.ModelInferRequest) -> int:
    """The longest answer that it asks for; of a number that `preprocess` refuses, the nearest that it does not."""
    given = whole_number(head.parameters["max_tokens"]) if "max_tokens" in head.parameters else None
    if given is None:
        return contract.DEFAULT_ANSWER_TOKENS
    return min(max(1, given), contract.LONGEST_ANSWER_TOKENS)
