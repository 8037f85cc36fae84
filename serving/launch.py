"""Serve the model repository: start tritonserver, wait until it answers a real request, stop it on Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from af3.manifest import ManifestError
from serving import gpu
from serving.ready import answers
from serving.server import Ports, Server, ServerError

CONFIG_OF_TARGET = {"cpu": "cpu"}
GPU_CONFIG = "gpu"
READY_TIMEOUT_S = {"cpu": 120.0, "gpu": 900.0}


def main() -> int:
    arguments = _parse()
    config = CONFIG_OF_TARGET.get(arguments.target, GPU_CONFIG)
    engines = arguments.folder / "engines" / arguments.target
    if not (engines / "manifest.json").is_file():
        print(f"no engines in {engines}; run `make engines GPU={arguments.target}` first", file=sys.stderr)
        return 2
    if config == GPU_CONFIG:
        try:
            gpu.prepare(engines)
        except ManifestError as error:
            print(error, file=sys.stderr)
            return 2
    log = arguments.log or Path(tempfile.mkstemp(prefix="af3-server-", suffix=".log")[1])
    ports = Ports(arguments.grpc_port, arguments.http_port, arguments.metrics_port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    try:
        with Server(config, arguments.folder, log, ports, arguments.host) as server:
            print(f"starting tritonserver ({config}), log in {log}", flush=True)
            server.wait_until(lambda: answers(server.url), READY_TIMEOUT_S[config])
            print(f"ready after {time.monotonic() - started:.1f} s; Ctrl-C stops it")
            print(f"  gRPC     {server.host}:{server.ports.grpc}")
            print(f"  HTTP     http://{server.host}:{server.ports.http}")
            print(f"  metrics  http://{server.host}:{server.ports.metrics}/metrics", flush=True)
            code = server.wait()
            print(f"tritonserver ended by itself with code {code}; see {log}", file=sys.stderr)
            return 1
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped")
        return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--target", default="cpu", help="which engines/<target> to serve (default: %(default)s)"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path.cwd(), help="folder that holds engines/ (default: here)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--grpc-port", type=int, default=8001, help="default: %(default)s")
    parser.add_argument("--http-port", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--metrics-port", type=int, default=8002, help="default: %(default)s")
    parser.add_argument("--log", type=Path, help="file for the server's output (default: a temporary file)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
