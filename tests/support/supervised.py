"""Door, supervisor and a real Triton, as `make serve` has them, in this process."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from serving.address import Ports, claim
from serving.door.door import Door, TritonAddress
from serving.host.patience import Patience
from serving.host.supervisor import Supervisor
from serving.host.triton import MODEL_REPOSITORY, Server

HOST = "127.0.0.1"


class Supervised:
    """The configs `config` served from `folder`, whose server is replaced when it fails, until `close`."""

    def __init__(self, folder: Path, config: str, patience: Patience, models: Path = MODEL_REPOSITORY):
        triton = TritonAddress(claim(Ports(0, 0, 0), HOST), "key")
        ports = claim(Ports(0, 0, 0), HOST, vars(triton.ports).values())
        self.door = Door(triton, HOST, ports)
        self.said: list[str] = []
        self.server: Server | None = None
        self.ending = threading.Event()
        self._wait_s = patience.start

        def start() -> Server:
            if self.ending.is_set():
                raise KeyboardInterrupt
            log = folder / "log"
            self.server = Server(config, folder, log, triton.ports, HOST, key="key", models=models)
            return self.server

        self.supervisor = Supervisor(self.door, start, patience, self.said.append)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with suppress(KeyboardInterrupt):
            self.supervisor.run(lambda: None)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition as long as a server may take to start."""
        end = time.monotonic() + self._wait_s
        while not condition():
            assert time.monotonic() < end and self._thread.is_alive(), self.said
            time.sleep(0.05)

    def close(self) -> None:
        self.ending.set()
        if self.server is not None:
            self.server.kill()
        self._thread.join()
        self.door.close()
