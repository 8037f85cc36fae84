"""Send the cases, judge what comes back, count."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import grpc
from tritonclient.grpc import service_pb2

from serving.door.triton_errors import from_triton
from serving.door.upstream import SERVICE
from tests.fuzz.requests import Case
from tests.support.wire import ask, ids_of

CASE_TIMEOUT_S = 30.0
RETRY_S = 0.05
WORKERS = 4
# What may be said to a client that sent nonsense. INTERNAL, UNKNOWN and the like are faults of ours.
RIGHT = frozenset(
    {"answered", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "DEADLINE_EXCEEDED", "ALREADY_EXISTS"}
)
INSIDES = re.compile(
    r"Traceback|File \"|\.py\b|/(work|tmp|home|opt|root|usr|engines)\b|site-packages|0x[0-9a-f]{6}"
)


@dataclass
class Result:
    """Counts the outcomes of each kind of case, and keeps the wrong ones."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest: int = -1

    def table(self) -> str:
        kinds = sorted({kind for kind, _ in self.counts})
        statuses = sorted({status for _, status in self.counts})
        lines = ["| kind | cases | " + " | ".join(statuses) + " |", "|---" * (len(statuses) + 2) + "|"]
        for kind in kinds:
            row = [self.counts[kind, status] for status in statuses]
            lines.append(f"| {kind} | {sum(row)} | " + " | ".join(map(str, row)) + " |")
        return "\n".join(lines)


def run(
    door: str, inside: str, cases: Iterable[Case], progress: Callable[[int], None] = lambda done: None
) -> Result:
    """`door` and `inside`: gRPC addresses of the door and of the Triton behind it."""
    result = Result()
    waiting: queue.SimpleQueue[Case | None] = queue.SimpleQueue()
    lock = threading.Lock()

    def work() -> None:
        with grpc.insecure_channel(door) as before, grpc.insecure_channel(inside) as behind:
            while (case := waiting.get()) is not None:
                began = time.monotonic()
                status, message = _send(behind if case.inside else before, case)
                seconds = time.monotonic() - began
                with lock:
                    _judge(result, case, status, message, seconds)
                    progress(result.counts.total())

    for case in cases:
        waiting.put(case)
    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for _ in threads:
        waiting.put(None)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return result


def good_answer(door: str) -> list[int]:
    """The answer to a fixed question; it must be the same before, during and after the cases."""
    return ids_of(ask(door, prompt="What is it?", parameters={"max_tokens": 8}))


def _send(channel: grpc.Channel, case: Case) -> tuple[str, str]:
    stream = channel.stream_stream(
        f"{SERVICE}ModelStreamInfer", response_deserializer=service_pb2.ModelStreamInferResponse.FromString
    )
    try:
        errors = [
            response.error_message
            for response in stream(_once(case.request), timeout=CASE_TIMEOUT_S)
            if response.error_message
        ]
    except grpc.RpcError as error:
        timed_out = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return ("hung" if timed_out else error.code().name), str(error.details())
    if not errors:
        return "answered", ""
    error = from_triton(errors[0])
    return error.status, error.message


def _once(request: bytes) -> Iterator[bytes]:
    yield request


def _judge(result: Result, case: Case, status: str, message: str, seconds: float) -> None:
    result.counts[case.kind, status] += 1
    if seconds > result.slowest_s:
        result.slowest_s, result.slowest = seconds, case.number
    why = None
    if status not in RIGHT:
        why = f"status {status}"
    elif case.must_fail and status == "answered":
        why = "answered, though it must fail"
    elif INSIDES.search(message):
        why = "tells of our insides"
    if why is not None:
        result.wrong.append(f"case {case.number} ({case.kind}): {why}: {message[:300]}")
