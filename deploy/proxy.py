"""An Envoy of its own on loopback, before servers that may come and go."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from deploy.envoy import SILENCE_S, binary, configuration, write_endpoints
from deploy.loopback import answers, ended, get, own_ports, wait_for
from serving.address import Ports, ServerError


class Proxy:
    """`servers`: who gets requests when it starts; `ports`: its own, `metrics` its admin page. A context manager."""

    def __init__(self, folder: Path, certificates: Path | None = None, silence_s: int = SILENCE_S):
        """folder: for its files; certificates: see `deploy.envoy.configuration`; silence_s: of a server, see there."""
        self.ports = own_ports()
        self.servers: Sequence[Ports] = ()
        self._folder = folder
        self._certificates = certificates
        self._silence_s = silence_s
        self._stack = ExitStack()

    def __enter__(self) -> Proxy:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def stats(self) -> dict[str, float]:
        """Envoy's own counters and gauges, by name."""
        reply = get(self.ports.metrics, "/stats")
        pairs = (line.split(": ", 1) for line in reply.splitlines() if ": " in line)
        return {name: float(value) for name, value in pairs if value.replace(".", "").isdigit()}

    def route_to(self, servers: Sequence[Ports]) -> None:
        """From now on these alone get requests; returns when Envoy has seen them healthy."""
        self.servers = servers
        write_endpoints(self._folder, servers)

        def agreed() -> bool:
            stats = self.stats()
            return all(
                stats[f"cluster.servers-{kind}.membership_healthy"] == len(servers)
                for kind in ("http", "grpc")
            )

        if not wait_for(agreed, 30.0):
            raise ServerError(f"envoy does not see {len(servers)} healthy servers")

    def configuration(self) -> dict[str, Any]:
        """What this Envoy is started with."""
        return configuration(self.ports, self._folder, self._certificates, self._silence_s)

    def _start(self) -> None:
        write_endpoints(self._folder, self.servers)
        path, log = self._folder / "envoy.yaml", self._folder / "envoy.log"
        path.write_text(yaml.safe_dump(self.configuration()))
        words = ["--use-dynamic-base-id", "--drain-time-s", "5", "-l", "warning"]
        process = subprocess.Popen(
            [str(binary()), "-c", str(path), *words],
            stdout=self._stack.enter_context(log.open("wb")),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._stack.callback(ended, process, 10.0)
        tls = self._certificates is not None

        def routes() -> bool:
            return process.poll() is None and answers(self.ports.http, "/v2/health/ready", tls)

        if not wait_for(routes, 30.0):
            raise ServerError(f"envoy does not route:\n{log.read_text()[-2000:]}")
