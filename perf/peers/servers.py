"""How each server is started and stopped, and what a question to it needs beside what all of them get.

All get the same checkpoint, in fp32, and as many threads as the machine has cores. `full_length`: every answer has as
many tokens as were asked for.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from af3.manifest import Manifest
from perf import observe, traffic
from perf.peers.asking import Answer, RefusedError, ask, question
from perf.peers.environments import LAUNCHERS, PeerError, python_of, version_of
from perf.peers.gguf_files import gguf
from perf.place import end, endless_served, served
from serving.address import Ports, claim
from serving.host.triton import dependent

HOST = "127.0.0.1"
START_TIMEOUT_S = 900  # vLLM compiles when it meets a checkpoint for the first time
STOP_TIMEOUT_S = 60
SLOTS = 32
CONTEXT_TOKENS = 4096
QUESTION = "What do you hear?"
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Server:
    """A running server.

    fields: what a question needs so that its answer has full length. pid: of its first process. start_s: from its
    start to the end of its first answer. memory_bytes: right after that, all its processes.
    """

    name: str
    version: str
    url: str
    pid: int
    model: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    start_s: float = 0.0
    memory_bytes: int = 0

    def memory(self) -> int:
        """Proportional set size of all its processes now, bytes."""
        return observe.memory_bytes(self.pid)


@contextmanager
def ours(checkpoint: Path, full_length: bool) -> Iterator[Server]:
    """This server with the engines in engines/cpu, which must be of that checkpoint. Raises PeerError."""
    built = Manifest.read(Path("engines/cpu")).checkpoint.name
    if Path(built).name != checkpoint.name:
        raise PeerError(
            f"engines/cpu is of {built}, not of {checkpoint}: make engines CHECKPOINT={checkpoint}"
        )
    began_s = time.perf_counter()
    with endless_served("cpu") if full_length else served("cpu", Path()) as place:
        assert place.pid is not None and place.http_url is not None
        yield _answering("ours", "", place.http_url, place.pid, "audio_flamingo", {}, began_s)


def vllm(checkpoint: Path, full_length: bool) -> AbstractContextManager[Server]:
    """vLLM with its own implementation of AF3: encoder and LLM. Raises PeerError."""
    settings = ("--dtype", "float32", "--max-model-len", str(CONTEXT_TOKENS), "--max-num-seqs", str(SLOTS))
    fields = {"ignore_eos": True} if full_length else {}
    return _started(
        "vLLM",
        ("-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint), *settings),
        str(checkpoint),
        fields,
        {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{CORES - 1}",
            "OMP_NUM_THREADS": str(CORES),
        },
    )


@contextmanager
def transformers_serve(checkpoint: Path, full_length: bool) -> Iterator[Server]:
    """`transformers serve`, which does not know AF3 and is told about it. Raises PeerError."""
    with tempfile.TemporaryDirectory(prefix="af3-peers-") as folder:
        served = Path(folder) / checkpoint.name
        _link(checkpoint, served, full_length)
        launcher = str(LAUNCHERS / "transformers_serve.py")
        settings = ("--dtype", "float32", "--device", "cpu")
        with _started(
            "transformers serve", (launcher, "serve", str(served), *settings), str(served), {}, {}
        ) as server:
            yield server


def llama_cpp(checkpoint: Path, full_length: bool) -> AbstractContextManager[Server]:
    """llama.cpp's server, from the package xllamacpp. Raises PeerError."""
    model, encoder = gguf(checkpoint)
    launcher = str(LAUNCHERS / "llama_cpp.py")
    settings = ("--model", str(model), "--encoder", str(encoder), "--threads", str(CORES))
    size = ("--slots", "8", "--context", str(8 * CONTEXT_TOKENS))
    fields = {"ignore_eos": True} if full_length else {}
    return _started("llama.cpp", (launcher, *settings, *size), "af3", fields, {})


@contextmanager
def language_model(model: Path, threads: int) -> Iterator[str]:
    """The address of llama.cpp's server with an LLM alone, a GGUF file. Raises PeerError."""
    launcher = str(LAUNCHERS / "llama_cpp.py")
    settings = (
        "--model",
        str(model),
        "--threads",
        str(threads),
        "--slots",
        "1",
        "--context",
        str(CONTEXT_TOKENS),
    )
    with _running("llama.cpp", (launcher, *settings), {}) as (url, process, log):
        until_s = time.perf_counter() + START_TIMEOUT_S
        while not _healthy(url):
            if process.poll() is not None or time.perf_counter() > until_s:
                raise PeerError(f"llama.cpp did not start; {_end_of(log)}")
            time.sleep(0.1)
        yield url


def _healthy(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health", trust_env=False).is_success
    except httpx2.HTTPError:
        return False


Start = Callable[[Path, bool], AbstractContextManager[Server]]
SERVERS: dict[str, Start] = {
    "ours": ours,
    "vLLM": vllm,
    "transformers serve": transformers_serve,
    "llama.cpp": llama_cpp,
}
VENV_OF = {"vLLM": "vllm", "transformers serve": "transformers", "llama.cpp": "llama"}
PACKAGE_OF = {"vLLM": "vllm-cpu", "transformers serve": "transformers", "llama.cpp": "xllamacpp"}


@contextmanager
def _started(
    name: str,
    arguments: tuple[str, ...],
    model: str,
    fields: Mapping[str, Any],
    environment: Mapping[str, str],
) -> Iterator[Server]:
    began_s = time.perf_counter()
    with _running(name, arguments, environment) as (url, process, log):
        version = version_of(python_of(VENV_OF[name]), PACKAGE_OF[name])
        yield _answering(name, version, url, process.pid, model, fields, began_s, process, log)


@contextmanager
def _running(
    name: str, arguments: tuple[str, ...], environment: Mapping[str, str]
) -> Iterator[tuple[str, subprocess.Popen[Any], Path]]:
    """Start a server and stop it: its address, its process, its log. It may not listen yet. Raises PeerError."""
    port = claim(Ports(0, 0, 0), HOST).http
    python = python_of(VENV_OF[name])
    log = Path(tempfile.mkstemp(prefix=f"af3-peer-{VENV_OF[name]}-", suffix=".log")[1])
    command = [python, *arguments, "--host", HOST, "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(
            dependent(command),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": ""} | environment,
        )
    try:
        yield f"http://{HOST}:{port}", process, log
    finally:
        end(process, STOP_TIMEOUT_S)
    log.unlink()  # where something failed, the error names it


def _answering(
    name: str,
    version: str,
    url: str,
    pid: int,
    model: str,
    fields: Mapping[str, Any],
    began_s: float,
    process: subprocess.Popen[Any] | None = None,
    log: Path | None = None,
) -> Server:
    """Wait for the first answer. Raises PeerError with the end of the log when there is none."""
    siren = (traffic.SAMPLES / "siren.wav").read_bytes()
    body = question(siren, "wav", QUESTION, model, 8, fields)
    said = "nothing listens"
    while process is None or process.poll() is None:
        try:
            answer = asyncio.run(_once(url, body))
        except (RefusedError, httpx2.HTTPError) as error:
            said = f"{type(error).__name__}: {error}"
        else:
            return Server(
                name,
                version,
                url,
                pid,
                model,
                fields,
                answer.ended_s - began_s,
                observe.memory_bytes(pid),
            )
        if time.perf_counter() - began_s > START_TIMEOUT_S:
            break
        time.sleep(0.1)
    end = "" if log is None else f"; {_end_of(log)}"
    raise PeerError(f"{name} gave no first answer ({said}){end}")


def _end_of(log: Path) -> str:
    return f"the end of its log {log}: {log.read_text(errors='replace')[-800:]}"


async def _once(url: str, body: bytes) -> Answer:
    async with httpx2.AsyncClient(timeout=START_TIMEOUT_S, trust_env=False) as client:
        return await ask(client, url, body)


def _link(checkpoint: Path, folder: Path, full_length: bool) -> None:
    """Links to the checkpoint's files; for full length, with an end token that the model never writes."""
    folder.mkdir()
    for file in checkpoint.iterdir():
        (folder / file.name).symlink_to(file.resolve())
    if not full_length:
        return
    unused = json.loads((checkpoint / "config.json").read_text())["text_config"]["vocab_size"] - 1
    settings = folder / "generation_config.json"
    changed = json.loads(settings.read_text()) | {"eos_token_id": unused}
    settings.unlink()
    settings.write_text(json.dumps(changed))
