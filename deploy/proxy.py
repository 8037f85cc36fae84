"""An Envoy of its own on loopback, before servers that may come and go."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from deploy.envoy import AS_IN_THE_CHART, Judgement, binary, configuration, write_endpoints
from deploy.loopback import Running, answers, ended, get, own_ports, wait_for
from serving.address import Ports, ServerError

WORKERS = 2  # as in the chart


class Proxy(Running):
    """`servers`: who gets requests when it starts; `ports`: its own, `metrics` its admin page. A context manager."""

    def __init__(
        self, folder: Path, certificates: Path | None = None, judgement: Judgement = AS_IN_THE_CHART
    ):
        """folder: for its files; certificates, judgement: see `deploy.envoy.configuration`."""
        super().__init__()
        self.ports = own_ports()
        self.servers: Sequence[Ports] = ()
        self._folder = folder
        self._certificates = certificates
        self._judgement = judgement

    def stats(self) -> dict[str, float]:
        """Envoy's own counters and gauges, by name."""
        reply = get(self.ports.metrics, "/stats")
        pairs = (line.split(": ", 1) for line in reply.splitlines() if ": " in line)
        return {name: float(value) for name, value in pairs if value.replace(".", "").isdigit()}

    def idle(self) -> bool:
        """Whether no request is in flight. What is counts against its server until Envoy has seen its end."""
        reply = get(self.ports.metrics, "/stats?filter=^cluster.servers-.*upstream_rq_active$")
        return all(line.endswith(": 0") for line in reply.splitlines())

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
        return configuration(self.ports, self._folder, self._certificates, self._judgement)

    def open(self) -> None:
        write_endpoints(self._folder, self.servers)
        path, log = self._folder / "envoy.yaml", self._folder / "envoy.log"
        path.write_text(yaml.safe_dump(self.configuration()))
        words = ["--use-dynamic-base-id", "--drain-time-s", "5", "-l", "warning"]
        words += ["--concurrency", str(WORKERS)]
        process = subprocess.Popen(
            [str(binary()), "-c", str(path), *words],
            stdout=self.stack.enter_context(log.open("wb")),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.stack.callback(ended, process, 10.0)
        tls = self._certificates is not None

        def routes() -> bool:
            return process.poll() is None and answers(self.ports.http, "/v2/health/ready", tls)

        if not wait_for(routes, 30.0):
            raise ServerError(f"envoy does not route:\n{log.read_text()[-2000:]}")
