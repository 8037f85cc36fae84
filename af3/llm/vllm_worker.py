"""The process that runs vLLM in vLLM's own environment: python -m af3.llm.vllm_worker FD SETTINGS.

`af3.llm.vllm_engine` starts it and holds the other end of file descriptor FD. It ends when that side is gone or when
vLLM's engine process dies; a supervisor then restarts everything.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import aclosing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from af3.llm.stop_words import StopWords
from af3.llm.vllm_stats import Stats
from af3.llm.vllm_wire import EngineSettings, Message, receive, send

log = logging.getLogger("af3.llm.vllm_worker")

LORA_RANKS = (8, 16, 32, 64, 128, 256, 512)  # vLLM supports no others
WATCH_S = 0.5


class Worker:
    """Serves the messages of one connection."""

    def __init__(self, connection: Connection, settings: EngineSettings):
        self._connection = connection
        self._dtype = getattr(torch, settings.dtype)
        self._adapters = {
            name: LoRARequest(name, number, path)
            for number, (name, path) in enumerate(sorted(settings.adapters.items()), start=1)
        }
        self._stats = Stats()
        self._engine = AsyncLLM.from_engine_args(
            engine_arguments(settings), stat_loggers=[self._stats.logger]
        )
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve until the other side is gone."""
        send(self._connection, {"kind": "ready"})
        watch = asyncio.create_task(self._watch())
        loop = asyncio.get_running_loop()
        while True:
            try:
                message, table = await loop.run_in_executor(None, receive, self._connection)
            except (EOFError, OSError):
                break
            if message["kind"] == "stop":
                if task := self._tasks.get(message["id"]):
                    task.cancel()
                continue
            self._begin(message, table)
        watch.cancel()
        self._engine.shutdown()
        _end_group()

    async def _watch(self) -> None:
        """Send changed figures; end this process when vLLM's engine process dies."""
        sent: Message = {}
        while not self._engine.errored:
            figures = self._stats.message(idle=not self._tasks)
            if figures != sent:
                send(self._connection, figures)
                sent = figures
            await asyncio.sleep(WATCH_S)
        _die()

    def _begin(self, wanted: Message, table: bytes | None) -> None:
        request_id: str = wanted["id"]
        task = asyncio.create_task(self._answer(wanted, table))
        self._tasks[request_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(request_id, None))

    async def _answer(self, wanted: Message, table: bytes | None) -> None:
        """Until the end, or until it is cancelled, for which the step does not wait."""
        try:
            prompt = await asyncio.to_thread(self._prompt, wanted, table)  # of half an hour: 650 MB
            await self._generate(wanted, prompt)
        except EngineDeadError:
            _die()
        except Exception as error:  # only this request failed
            log.exception("a request failed")
            refused = isinstance(error, ValueError)  # vLLM's own checks
            failed = {"kind": "failed", "id": wanted["id"], "refused": refused, "why": str(error)}
            send(self._connection, failed)

    async def _generate(self, wanted: Message, prompt: dict[str, Any]) -> None:
        words = StopWords(wanted["end_id"], [tuple(word) for word in wanted["stop_words"]])
        outputs = self._engine.generate(
            prompt,
            sampling_parameters(wanted),
            wanted["id"],
            lora_request=self._adapters[wanted["adapter"]] if wanted["adapter"] else None,
        )
        async with aclosing(outputs):
            async for output in outputs:
                completion = output.outputs[0]
                ids, ended = words.accept(completion.token_ids)
                final = ended or output.finished
                self._send_tokens(wanted["id"], ids, final)
                if final:
                    break

    def _prompt(self, wanted: Message, table: bytes | None) -> dict[str, Any]:
        """Build vLLM's prompt: token ids and, with audio, embeddings [S, H] of which vLLM reads only the audio rows."""
        ids: list[int] = wanted["ids"]
        if table is None:
            return {"prompt_token_ids": ids}
        rows = torch.frombuffer(bytearray(table), dtype=torch.float32).reshape(wanted["shape"])
        places, indices = torch.tensor(wanted["places"]), torch.tensor(wanted["rows"])
        embeddings = torch.zeros(len(ids), rows.shape[1], dtype=self._dtype)
        embeddings[places] = rows[indices].to(self._dtype)
        is_token = torch.ones(len(ids), dtype=torch.bool)
        is_token[places] = False
        return {
            "prompt_token_ids": ids,
            "prompt_embeds": embeddings,
            "prompt_is_token_ids": is_token.tolist(),
        }

    def _send_tokens(self, request_id: str, ids: Sequence[int], final: bool) -> None:
        send(self._connection, {"kind": "tokens", "id": request_id, "ids": list(ids), "final": final})


def engine_arguments(settings: EngineSettings) -> AsyncEngineArgs:
    """vLLM's arguments: no tokenizer, no generation_config defaults, no telemetry."""
    on_cpu = settings.device == "cpu"
    memory: dict[str, Any] = (
        {"kv_cache_memory_bytes": int(settings.kv_cache_gib * 2**30)}
        if on_cpu
        else {"gpu_memory_utilization": settings.gpu_memory_fraction}
    )
    lora: dict[str, Any] = {}
    if settings.adapters:
        ranks = [
            json.loads((Path(path) / "adapter_config.json").read_text())["r"]
            for path in settings.adapters.values()
        ]
        lora = {
            "enable_lora": True,
            "max_loras": len(settings.adapters),
            "max_lora_rank": next(rank for rank in LORA_RANKS if rank >= max(ranks)),
        }
    return AsyncEngineArgs(
        model=settings.model,
        skip_tokenizer_init=True,
        generation_config="vllm",
        dtype=settings.dtype,
        quantization=settings.quantization,
        max_model_len=settings.max_sequence_tokens,
        max_num_seqs=settings.slots,
        max_num_batched_tokens=max(settings.prefill_tokens, settings.slots),
        tensor_parallel_size=settings.tensor_parallel,
        enable_prompt_embeds=True,
        enable_prefix_caching=True,
        enforce_eager=on_cpu,  # compiling takes longer than it saves on a CPU
        disable_log_stats=True,
        **memory,
        **lora,
    )


def sampling_parameters(wanted: Message) -> SamplingParams:
    """Translate TensorRT-LLM's parameters: top_k 1 is greedy, top_k 0 is all tokens."""
    greedy = wanted["top_k"] == 1
    ends = [wanted["end_id"]] if wanted["end_id"] is not None else []
    ends += [word[0] for word in wanted["stop_words"] if len(word) == 1]
    return SamplingParams(
        temperature=0.0 if greedy else wanted["temperature"],
        top_k=0 if greedy else wanted["top_k"],
        top_p=1.0 if greedy else wanted["top_p"],
        repetition_penalty=wanted["repetition_penalty"],
        seed=None if greedy else wanted["seed"],
        max_tokens=wanted["max_new_tokens"],
        stop_token_ids=ends,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def _die() -> None:
    log.error("vLLM's engine process has died")
    _end_group()  # vLLM has nothing left to clean up


def _end_group() -> None:
    """Kill this process and all processes that vLLM started."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


async def _serve(connection: Connection, settings: EngineSettings) -> None:
    await Worker(connection, settings).run()


def main() -> None:
    descriptor, settings = sys.argv[1:]
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(_serve(Connection(int(descriptor)), EngineSettings.from_json(settings)))


if __name__ == "__main__":
    main()
