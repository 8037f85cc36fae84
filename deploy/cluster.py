"""Several servers on this machine behind one Envoy, as the chart sets them up: `make cluster N=3`.

For trying routing, failures and restarts without Kubernetes. Everything listens on loopback.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.envoy import HOST, EnvoyMissing
from deploy.loopback import Running, answers, ended, get, own_ports, wait_for
from deploy.proxy import Proxy
from serving.address import ServerError

READY_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 60.0


class Cluster(Running):
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
        super().__init__()
        logs = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="af3-cluster-")))
        self.proxy = Proxy(logs, certificates)
        if certificates is not None:
            own = ("--tls-cert", str(certificates / "tls.crt"), "--tls-key", str(certificates / "tls.key"))
            extra = (*extra, *own)
        self.servers = [
            Member(number, folder, target, extra, logs, certificates is not None) for number in range(count)
        ]
        self.ports = self.proxy.ports
        self.stats = self.proxy.stats
        self.idle = self.proxy.idle
        self.route_to = self.proxy.route_to

    def open(self) -> None:
        for server in self.servers:
            server.start()
            self.stack.callback(server.stop)
        for server in self.servers:
            server.wait_until_ready()
        self.proxy.servers = [server.ports for server in self.servers]
        self.stack.enter_context(self.proxy)

    def restart(self, server: Member) -> None:
        """As a Deployment is rolled: out of the list, then told to end; back when it is ready again."""
        self.route_to([one.ports for one in self.servers if one is not server])
        server.stop()
        server.start()
        server.wait_until_ready()
        self.route_to([one.ports for one in self.servers])


class Member:
    """One server of a cluster: `serving.host.launch` in a process of its own, on ports that stay its own."""

    def __init__(
        self, number: int, folder: Path, target: str, extra: tuple[str, ...], logs: Path, tls: bool = False
    ):
        self.ports = own_ports()
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
            return answers(self.ports.http, "/v2/health/ready", self._tls)

        if not wait_for(ready, READY_TIMEOUT_S):
            raise ServerError(
                f"a server is not ready after {READY_TIMEOUT_S:.0f} s:\n{self._log.read_text()[-2000:]}"
            )

    def stop(self) -> None:
        """SIGTERM: answers in flight finish first."""
        if self._process is not None:
            ended(self._process, STOP_TIMEOUT_S)

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
