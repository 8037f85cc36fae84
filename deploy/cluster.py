"""Several servers on this machine behind one Envoy, as the chart sets them up: `make cluster N=3`.

For trying routing, failures and restarts without Kubernetes. Everything listens on loopback.
"""

from __future__ import annotations

import argparse
import random
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import yaml

from deploy.envoy import HOST, EnvoyMissing, binary, configuration, write_endpoints
from serving.address import Ports, ServerError, claim

READY_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 60.0


class Cluster:
    """`count` servers of `folder/engines/<target>` and an Envoy before them; a context manager.

    `ports` are Envoy's; `servers[n].ports` those of a server by itself, whose metrics tell what it did.
    """

    def __init__(
        self,
        count: int,
        folder: Path,
        target: str = "cpu",
        extra: tuple[str, ...] = (),
        certificates: Path | None = None,
    ):
        """`extra`: options of every server; `certificates`: a folder with `tls.crt` and `tls.key`, for TLS."""
        self._stack = ExitStack()
        self._logs = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="af3-cluster-")))
        self._certificates = certificates
        if certificates is not None:
            own = ("--tls-cert", str(certificates / "tls.crt"), "--tls-key", str(certificates / "tls.key"))
            extra = (*extra, *own)
        self.servers = [
            Member(number, folder, target, extra, self._logs, certificates is not None)
            for number in range(count)
        ]
        self.ports = _own_ports()

    def __enter__(self) -> Cluster:
        try:
            for server in self.servers:
                server.start()
                self._stack.callback(server.stop)
            for server in self.servers:
                server.wait_until_ready()
            self._start_envoy()
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

    def restart(self, server: Member) -> None:
        """As a Deployment is rolled: out of the list, then told to end; back when it is ready again."""
        self.route_to([one.ports for one in self.servers if one is not server])
        server.stop()
        server.start()
        server.wait_until_ready()
        self.route_to([one.ports for one in self.servers])

    def route_to(self, servers: Sequence[Ports]) -> None:
        """From now on these alone get requests; returns when Envoy has seen them healthy."""
        write_endpoints(self._logs, servers)
        self._wait_for_members(len(servers))

    def _wait_for_members(self, count: int) -> None:
        def agreed() -> bool:
            stats = self.stats()
            return all(
                stats[f"cluster.servers-{kind}.membership_healthy"] == count for kind in ("http", "grpc")
            )

        if not wait_for(agreed, 30.0):
            raise ServerError(f"envoy does not see {count} healthy servers")

    def _start_envoy(self) -> None:
        write_endpoints(self._logs, [server.ports for server in self.servers])
        path = self._logs / "envoy.yaml"
        path.write_text(yaml.safe_dump(configuration(self.ports, self._logs, self._certificates)))
        log = self._stack.enter_context((self._logs / "envoy.log").open("wb"))
        command = [
            str(binary()),
            "-c",
            str(path),
            "--use-dynamic-base-id",
            "--drain-time-s",
            "5",
            "-l",
            "warning",
        ]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self._stack.callback(_end, process, 10.0)

        def routes() -> bool:
            return process.poll() is None and _answers(
                self.ports.http, "/v2/health/ready", self._certificates is not None
            )

        if not wait_for(routes, 30.0):
            raise ServerError(f"envoy does not route:\n{(self._logs / 'envoy.log').read_text()[-2000:]}")


class Member:
    """One server of a cluster: `serving.host.launch` in a process of its own, on ports that stay its own."""

    def __init__(
        self, number: int, folder: Path, target: str, extra: tuple[str, ...], logs: Path, tls: bool = False
    ):
        self.ports = _own_ports()
        self._command = [
            *(sys.executable, "-m", "serving.host.launch"),
            *("--target", target, "--folder", str(folder), "--host", HOST),
            *("--grpc-port", str(self.ports.grpc), "--http-port", str(self.ports.http)),
            *("--metrics-port", str(self.ports.metrics), "--log", str(logs / f"triton-{number}.log")),
            *extra,
        ]
        self._log = logs / f"server-{number}.log"
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Raises ServerError with the end of its log when it does not become ready."""

        def ready() -> bool:
            if self._process is None or self._process.poll() is not None:
                raise ServerError(f"a server of the cluster ended:\n{self._log.read_text()[-2000:]}")
            return _answers(self.ports.http, "/v2/health/ready", self._tls)

        if not wait_for(ready, READY_TIMEOUT_S):
            raise ServerError(
                f"a server is not ready after {READY_TIMEOUT_S:.0f} s:\n{self._log.read_text()[-2000:]}"
            )

    def stop(self) -> None:
        """SIGTERM: answers in flight finish first."""
        if self._process is not None:
            _end(self._process, STOP_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL, as a lost node. Its Triton ends by itself when its launcher is gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def metrics(self) -> dict[str, float]:
        """Every sample of its /metrics, by name with labels."""
        lines = get(self.ports.metrics, "/metrics").splitlines()
        return {
            name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")
        }


def get(port: int, path: str, tls: bool = False) -> str:
    """What a loopback port answers to a GET; whose certificate it has is not looked at."""
    unverified = ssl._create_unverified_context() if tls else None
    url = f"{'https' if tls else 'http'}://{HOST}:{port}{path}"
    with urllib.request.urlopen(url, timeout=5, context=unverified) as reply:
        text: str = reply.read().decode()
    return text


def _own_ports() -> Ports:
    """Free ones that stay so while their server restarts: below those that the system gives to connections."""
    while True:
        try:
            return claim(Ports(*random.sample(range(15_000, 32_000), 3)), HOST)
        except ServerError:
            continue


def wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Poll until it is true; False when time is up."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _answers(port: int, path: str, tls: bool) -> bool:
    try:
        get(port, path, tls)
    except (urllib.error.URLError, OSError):
        return False
    return True


def _end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--target", default="cpu", help="which engines/<target> (default: %(default)s)")
    parser.add_argument(
        "--folder", type=Path, default=Path.cwd(), help="folder that holds engines/ (default: here)"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Cluster(arguments.servers, arguments.folder, arguments.target) as cluster:
            print(f"{arguments.servers} servers behind Envoy; Ctrl-C stops them")
            print(f"  gRPC     {HOST}:{cluster.ports.grpc}")
            print(f"  HTTP     http://{HOST}:{cluster.ports.http}")
            print(f"  Envoy    http://{HOST}:{cluster.ports.metrics}/stats")
            for server in cluster.servers:
                print(f"  server   http://{HOST}:{server.ports.metrics}/metrics", flush=True)
            signal.pause()
    except (ServerError, EnvoyMissing) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
