"""The messages between the `llm` step and the process that runs vLLM.

The two share no package: Triton's Python backend needs numpy 1, vLLM has numpy 2 and its own torch. So messages are
JSON, with raw float32 for a prompt table, framed by `multiprocessing.connection`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True)
class EngineSettings:
    """How vLLM is started.

    model: folder of a Qwen2ForCausalLM. kv_cache_gib: on a CPU; on a GPU, weights and KV cache take gpu_memory_fraction
    of the memory. adapters: name → folder of a LoRA in PEFT's format.
    """

    model: str
    device: str
    dtype: str
    quantization: str | None
    max_sequence_tokens: int
    slots: int
    prefill_tokens: int
    kv_cache_gib: float
    gpu_memory_fraction: float
    tensor_parallel: int
    threads: int
    adapters: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> EngineSettings:
        return cls(**json.loads(text))


def send(connection: Connection, message: Message, table: bytes | memoryview | None = None) -> None:
    """Send a message. table: the bytes of a float32 [P, H] array. One sender at a time."""
    connection.send_bytes(json.dumps(message | {"table": table is not None}).encode())
    if table is not None:
        connection.send_bytes(table)


def receive(connection: Connection) -> tuple[Message, bytes | None]:
    """Receive a message; blocks. Raises EOFError or OSError when the other side is gone."""
    message = json.loads(connection.recv_bytes())
    return message, connection.recv_bytes() if message.pop("table") else None
