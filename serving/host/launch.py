"""Serve the model repository: a front door for clients, and behind it a tritonserver that is kept alive."""

from __future__ import annotations

import argparse
import logging
import secrets
import signal
import sys
import tempfile
from pathlib import Path

from af3.manifest import CPU_VLLM, Manifest, ManifestError
from serving import journal
from serving.address import Ports, ServerError, claim, location
from serving.door import tls
from serving.door.admission import Limits
from serving.door.door import Door, TritonAddress
from serving.door.http_server import open_access_log
from serving.door.open_files import raise_limit
from serving.host import engine_choice, in_container
from serving.host.served_model import served_model
from serving.host.supervisor import Patience, Supervisor
from serving.host.triton import Server
from serving.machine.gpu import VLLM_LINK, link_engines

CONFIG_OF_TARGET = {"cpu": "cpu", "any": "vllm", CPU_VLLM: "vllm"}
GPU_CONFIG = "gpu"
READY_TIMEOUT_S = {"cpu": 120.0, "gpu": 900.0, "vllm": 900.0}
INSIDE = "127.0.0.1"


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    target = target_of(arguments.target, arguments.llm)
    config = CONFIG_OF_TARGET.get(target, GPU_CONFIG)
    if config == GPU_CONFIG and not in_container.is_inside():
        return in_container.serve(arguments, parser)
    engines = arguments.folder / "engines" / target
    if not (engines / "manifest.json").is_file():
        wanted = "cpu LLM=vllm" if target == CPU_VLLM else target
        print(f"no engines in {engines}; run `make engines GPU={wanted}` first", file=sys.stderr)
        return 2
    extra: tuple[str, ...] = ()
    try:
        if config == GPU_CONFIG:
            extra = engine_choice.prepare(engines)
        elif config == "vllm":
            link_engines(engines, VLLM_LINK)
    except ManifestError as error:
        print(error, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.basicConfig(level=logging.WARNING)
    raise_limit()
    try:
        if arguments.journal is not None:
            journal.open_at(arguments.journal)
        if arguments.access_log is not None:
            open_access_log(arguments.access_log)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}; name a file that can be written", file=sys.stderr)
        return 2
    try:
        return _serve(arguments, config, extra)
    except (ManifestError, ServerError, tls.TlsError) as error:
        print(error, file=sys.stderr)
        return 1


def _serve(arguments: argparse.Namespace, config: str, extra: tuple[str, ...]) -> int:
    log = arguments.log or Path(tempfile.mkstemp(prefix="af3-server-", suffix=".log")[1])
    ports = claim(Ports(arguments.grpc_port, arguments.http_port, arguments.metrics_port), arguments.host)
    triton = TritonAddress(claim(Ports(0, 0, 0), INSIDE), secrets.token_hex(16))
    limits = Limits(
        arguments.max_in_flight,
        arguments.max_timeout,
        arguments.max_message_mb << 20,
        max(arguments.max_upload_mb, arguments.max_message_mb) << 20,
    )
    certificates = tls.from_options(arguments.tls_cert, arguments.tls_key, arguments.tls_ca)
    extra += trace_options(arguments.trace_url)
    model = served_model(Manifest.read(arguments.folder / "engines" / arguments.target))

    def start() -> Server:
        return Server(config, arguments.folder, log, triton.ports, INSIDE, extra, triton.key)

    def on_ready() -> None:
        scheme = "" if certificates is None else " (TLS)" if certificates.ca is None else " (mutual TLS)"
        print("Ctrl-C stops it")
        print(f"  {model}")
        print(f"  gRPC     {door.url}{scheme}")
        print(f"  HTTP     http{'s' if certificates else ''}://{location(door.host, door.ports.http)}")
        print(f"  metrics  http://{location(door.metrics_host, door.ports.metrics)}/metrics", flush=True)

    with Door(
        triton,
        arguments.host,
        ports,
        limits,
        certificates,
        origins=arguments.allow_origin,
        metrics_host=arguments.metrics_host,
    ) as door:
        print(f"starting tritonserver ({config}), log in {log}", flush=True)
        supervisor = Supervisor(
            door, start, Patience(READY_TIMEOUT_S[config]), lambda line: print(line, flush=True)
        )
        try:
            supervisor.run(on_ready)
        except KeyboardInterrupt:
            print("stopped")
    return 0


def target_of(target: str, llm: str | None) -> str:
    """The folder of engines for GPU= and LLM=."""
    if llm != "vllm":
        return target
    return CPU_VLLM if target == "cpu" else "any"


def trace_options(url: str | None) -> tuple[str, ...]:
    """Triton's own OpenTelemetry traces of every request, sent to an OTLP/HTTP collector."""
    if url is None:
        return ()
    return (
        "--trace-config=mode=opentelemetry",
        f"--trace-config=opentelemetry,url={url}",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=rate=1",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--target", default="cpu", help="which engines/<target> to serve (default: %(default)s)"
    )
    parser.add_argument("--llm", choices=["vllm"], help="serve the LLM with vLLM")
    parser.add_argument(
        "--folder", type=Path, default=Path.cwd(), help="folder that holds engines/ (default: here)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--grpc-port", type=int, default=8001, help="default: %(default)s")
    parser.add_argument("--http-port", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--metrics-port", type=int, default=8002, help="default: %(default)s")
    parser.add_argument("--tls-cert", type=Path, help="PEM file of the server's certificate: TLS")
    parser.add_argument("--tls-key", type=Path, help="PEM file of its key")
    parser.add_argument("--tls-ca", type=Path, help="PEM file of who signs clients: mutual TLS")
    limits = Limits()
    parser.add_argument(
        "--max-in-flight", type=int, default=limits.in_flight, help="requests at once (default: %(default)s)"
    )
    parser.add_argument(
        "--max-timeout",
        type=float,
        default=limits.timeout_s,
        metavar="SECONDS",
        help="longest time for one request (default: %(default)g)",
    )
    parser.add_argument(
        "--max-message-mb",
        type=int,
        default=limits.message_bytes >> 20,
        help="largest request (default: %(default)s)",
    )
    parser.add_argument(
        "--max-upload-mb",
        type=int,
        default=limits.upload_bytes >> 20,
        help="all requests together that are being received (default: %(default)s)",
    )
    parser.add_argument("--metrics-host", help="address for /metrics (default: --host)")
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="web pages of this origin may call, such as https://voice.example; may be given several times",
    )
    parser.add_argument("--access-log", type=Path, help="file for one line per HTTP request")
    parser.add_argument("--log", type=Path, help="file for the server's output (default: a temporary file)")
    parser.add_argument("--journal", type=Path, help="file for one JSON line per request and stage")
    parser.add_argument(
        "--trace-url", help="OTLP/HTTP collector of OpenTelemetry traces, http://HOST:4318/v1/traces"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
