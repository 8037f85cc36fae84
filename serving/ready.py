"""Does the server answer? Asks it a real question about a real (if short) sound; the health check of containers."""

from __future__ import annotations

import argparse
import io
import queue
import sys
import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np
import soundfile
from tritonclient import grpc as triton

from af3 import contract
from af3.audio import SAMPLE_RATE

TONE_HZ = 440


def answers(url: str, timeout_s: float = 10.0) -> bool:
    """True when the ensemble at `url` (gRPC) answers a question about a 0.5 s tone with at least one token."""
    try:
        with triton.InferenceServerClient(url) as client:
            return client.is_server_ready(client_timeout=timeout_s) and _token_count(client, timeout_s) > 0
    except (triton.InferenceServerException, queue.Empty):
        return False


def _token_count(client: triton.InferenceServerClient, timeout_s: float) -> int:
    responses: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: responses.put((result, error)))
    client.async_stream_infer(
        contract.AUDIO_FLAMINGO.name,
        [_bytes_input(contract.AUDIO, [_tone()]), _bytes_input(contract.PROMPT, [b"What is this?"])],
        request_id=f"ready-{uuid.uuid4()}",
        parameters={"max_tokens": 1},
    )
    result, error = responses.get(timeout=timeout_s)
    if error is not None:
        raise error
    return int(result.as_numpy(contract.TOKEN_COUNT.name)[0])


def _bytes_input(tensor: contract.Tensor, values: Iterable[bytes]) -> triton.InferInput:
    array = np.array(list(values), np.object_)
    made = triton.InferInput(tensor.name, array.shape, "BYTES")
    made.set_data_from_numpy(array)
    return made


def _tone() -> bytes:
    file = io.BytesIO()
    tone = 0.1 * np.sin(2 * np.pi * TONE_HZ * np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE)
    soundfile.write(file, tone, SAMPLE_RATE, format="WAV")
    return file.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="127.0.0.1:8001", help="gRPC address (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds (default: %(default)s)")
    arguments = parser.parse_args()
    ready = answers(arguments.url, arguments.timeout)
    print("ready" if ready else f"{arguments.url} does not answer")
    return 0 if ready else 1


if __name__ == "__main__":
    sys.exit(main())
