"""Runs the LLM on vLLM in a separate process: sends generations, receives new tokens."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

from af3.adapters import check_adapter
from af3.errors import RequestError, invalid
from af3.llm.checks import refuse_malformed
from af3.llm.intake import Intake, shutting_down
from af3.llm.interface import EngineStats, Observer
from af3.llm.sequence import Generation, Listener
from af3.llm.unwanted import CHECK_S, Unwanted
from af3.llm.vllm_wire import EngineSettings, Message, receive, send
from af3.manifest import Manifest, ModelFacts

log = logging.getLogger(__name__)

REPOSITORY = Path(__file__).resolve().parents[2]
IDLE_S = 1.0
END_S = 10.0


class EngineLost(Exception):
    """vLLM's process could not be started or has ended."""


class _InFlight:
    """A generation in vLLM, identified by our own number, because a client may reuse its id."""

    def __init__(self, number: str, generation: Generation, listener: Listener):
        self.number = number
        self.generation = generation
        self.listener = listener
        self.begun = False


class VllmEngine:
    """Runs generations in vLLM, up to `slots` at once; others wait in a bounded queue.

    One thread calls the listeners and talks to vLLM:


        submit ─► queue ─► in vLLM (at most `slots`) ─► end
    """

    def __init__(
        self,
        python: Path,
        manifest: Manifest,
        settings: EngineSettings,
        max_queue: int,
        observer: Observer,
    ):
        """Blocks until vLLM is ready. Raises EngineLost when it cannot be started."""
        self._model = manifest.model
        self._limit = settings.max_sequence_tokens
        self._adapters = frozenset(settings.adapters)
        self._slots = settings.slots
        self._observer = observer
        self._reported = 0, 0
        self._intake = Intake(max_queue)
        self._unwanted = Unwanted(self._intake)
        self._in_flight: dict[str, _InFlight] = {}  # by their numbers
        self._numbers = map(str, itertools.count())
        self._closing = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._process, self._connection = _start(python, settings)
        _await_ready(self._process, self._connection)
        self._thread = threading.Thread(target=self._run, name="vllm", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Process id of vLLM."""
        return self._process.pid

    def submit(self, generation: Generation, listener: Listener) -> None:
        """Queue a request.

        Raises RequestError when it cannot be served: malformed, an id in use, the queue full, or closed.
        """
        refuse_malformed(generation, self._model.vocab_size, self._model.hidden_size, self._limit)
        if generation.adapter is not None:
            check_adapter(generation.adapter, self._adapters)
        self._intake.submit(generation, listener)
        os.eventfd_write(self._wake, 1)

    def stop(self, request_id: str) -> None:
        """Stop a request; its listener gets a final call without tokens. Ignores unknown ids."""
        self._intake.stop(request_id)
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Fail all requests in flight and end vLLM."""
        self._intake.close()
        self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self._kill_group()
        self._process.wait()

    def _kill_group(self) -> None:
        """Kill vLLM's process and its children, which do not notice when it dies."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _run(self) -> None:
        try:
            while not self._closing:
                busy = self._in_flight or len(self._intake)
                wait([self._connection, self._wake], timeout=CHECK_S if busy else IDLE_S)
                self._turn()
            self._fail_all(shutting_down())
        except (EOFError, OSError):
            log.error("vLLM's process has ended")
            self._kill_group()
            self._intake.close()
            self._fail_all(RequestError("UNAVAILABLE", "the LLM's engine has ended; try again in a minute"))
            self._observer.lost()

    def _turn(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        moved = not self._in_flight
        while self._connection.poll():
            self._take(receive(self._connection)[0])
            moved = True
        self._unwanted.drop(list(self._in_flight.values()), self._abort)
        self._admit()
        self._report()
        if moved or not self._in_flight:  # silence from vLLM with requests in flight may mean that it hangs
            self._observer.turned(bool(self._in_flight))

    def _take(self, message: Message) -> None:
        if message["kind"] == "stats":
            figures = {name: value for name, value in message.items() if name != "kind"}
            return self._observer.stats(EngineStats(**figures))
        flight = self._in_flight.get(message["id"])
        if flight is None:
            return None  # stopped in the meantime
        if message["kind"] == "failed":
            self._end(message["id"])
            why = message["why"]
            return flight.listener.failed(invalid(why) if message["refused"] else EngineLost(why))
        flight.begun = True
        if message["final"]:
            self._end(message["id"])
        return flight.listener.tokens(message["ids"], message["final"])

    def _admit(self) -> None:
        while len(self._in_flight) < self._slots and (waiting := self._intake.next()):
            number = next(self._numbers)
            self._in_flight[number] = _InFlight(number, waiting.generation, waiting.listener)
            message, table = wanted_message(waiting.generation, self._model)
            send(self._connection, message | {"id": number}, table)

    def _abort(self, flight: _InFlight) -> None:
        self._end(flight.number)
        send(self._connection, {"kind": "stop", "id": flight.number})

    def _end(self, number: str) -> None:
        self._intake.end(self._in_flight.pop(number).generation)

    def _fail_all(self, error: Exception) -> None:
        flights, self._in_flight = self._in_flight, {}
        for flight in flights.values():
            self._intake.end(flight.generation)
            flight.listener.failed(error)
        for waiting in self._intake.remove_all():
            waiting.listener.failed(error)
        self._report()

    def _report(self) -> None:
        counts = len(self._in_flight), len(self._intake)
        if counts != self._reported:
            self._reported = counts
            self._observer.counts(*counts)


def wanted_message(generation: Generation, model: ModelFacts) -> tuple[Message, memoryview | None]:
    """Build the message to vLLM's process for a generation, and its prompt table.

    At audio tokens, the ids hold the audio placeholder token as in Transformers; `places` and `rows` say which row of
    the table goes where.
    """
    ids, table, sampling = generation.input_ids, generation.table, generation.sampling
    virtual = ids >= model.vocab_size
    message: Message = {
        "kind": "generate",
        "ids": np.where(virtual, model.audio_token_id, ids).tolist(),
        "max_new_tokens": generation.max_new_tokens,
        "end_id": generation.end_id,
        "stop_words": [list(word) for word in generation.stop_words],
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "repetition_penalty": sampling.repetition_penalty,
        "seed": sampling.seed,
        "adapter": generation.adapter,
    }
    if table is None or not virtual.any():
        return message, None
    message |= {
        "shape": list(table.shape),
        "places": np.flatnonzero(virtual).tolist(),
        "rows": (ids[virtual] - model.vocab_size).tolist(),
    }
    return message, np.ascontiguousarray(table, np.float32).data.cast("B")


def _start(python: Path, settings: EngineSettings) -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [str(python), "-m", "af3.llm.vllm_worker", str(theirs.fileno()), settings.to_json()],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment(settings),
                start_new_session=True,  # a process group of its own, so that its children end with it
            )
        except OSError as error:
            raise EngineLost(f"{python}: {error.strerror}; run `make setup-vllm`") from error
    return process, Connection(ours.detach())


def environment(settings: EngineSettings) -> Mapping[str, str]:
    """vLLM's environment: without the step's libraries, without telemetry, with the configured threads."""
    inherited = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    libraries = [folder for folder in inherited if folder and not folder.startswith(sys.prefix)]
    found = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "PYTHONDONTWRITEBYTECODE": "",
    }
    if settings.device == "cpu":
        threads = str(settings.threads)
        found |= {"OMP_NUM_THREADS": threads, "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        # Spinning threads would take the cores from the other steps between two tokens.
        found.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return found


def _await_ready(process: subprocess.Popen[bytes], connection: Connection) -> None:
    try:
        receive(connection)
    except (EOFError, OSError):
        raise EngineLost(
            f"vLLM ended with code {process.wait()} while it started; see the log above"
        ) from None
