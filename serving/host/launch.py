"""Serve the model repository: a front door for clients, and behind it a tritonserver that is kept alive."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import tempfile
from pathlib import Path

from af3.manifest import CPU_VLLM, Manifest, ManifestError
from af3.speech.built_voice import available_voices
from serving import journal
from serving.address import Ports, ServerError, claim, location
from serving.door import tls
from serving.door.admission import Limits
from serving.door.api_keys import KeyFileError
from serving.door.door import Door, TritonAddress
from serving.door.http_server import open_access_log
from serving.door.open_files import raise_limit
from serving.door.realtime.realtime_limits import RealtimeLimits
from serving.host import engine_choice, in_container, step_couplings
from serving.host.launch_settings import LaunchSettings, from_command_line
from serving.host.mps import shared_gpu
from serving.host.served_model import served_model
from serving.host.supervisor import Patience, Supervisor
from serving.host.triton import Server
from serving.machine.gpu import VLLM_LINK, link_engines

CONFIG_OF_TARGET = {"cpu": "cpu", "any": "vllm", "rtx": "vllm", CPU_VLLM: "vllm"}
GPU_CONFIG = "gpu"
READY_TIMEOUT_S = {"cpu": 120.0, "gpu": 900.0, "vllm": 900.0}
INSIDE = "127.0.0.1"


def main() -> int:
    settings = from_command_line(__doc__ or "")
    target = target_of(settings.target, settings.llm)
    config = CONFIG_OF_TARGET.get(target, GPU_CONFIG)
    if settings.mps and config == "cpu":
        print("--mps: there is no GPU to share with GPU=cpu; leave it out", file=sys.stderr)
        return 2
    if config == GPU_CONFIG and not in_container.is_inside():
        return in_container.serve(settings)
    engines = settings.folder / "engines" / target
    if not (engines / "manifest.json").is_file():
        wanted = "cpu LLM=vllm" if target == CPU_VLLM else target
        print(f"no engines in {engines}; run `make engines GPU={wanted}` first", file=sys.stderr)
        return 2
    extra: tuple[str, ...] = ()
    try:
        steps = step_couplings.read_steps(config)
        step_couplings.check(settings, steps)
        limits = step_couplings.limits(settings, steps, step_couplings.decoding_processes(config))
        if config == GPU_CONFIG:
            extra = engine_choice.prepare(engines)
        elif config == "vllm":
            link_engines(engines, VLLM_LINK)
    except (ManifestError, ServerError) as error:
        print(error, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.basicConfig(level=logging.WARNING)
    raise_limit()
    try:
        if settings.journal is not None:
            journal.open_at(settings.journal)
        if settings.access_log is not None:
            open_access_log(settings.access_log)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}; name a file that can be written", file=sys.stderr)
        return 2
    try:
        with shared_gpu(settings.mps):
            return _serve(settings, limits, engines, config, extra)
    except (KeyFileError, ManifestError, ServerError, tls.TlsError) as error:
        print(error, file=sys.stderr)
        return 1


def _serve(
    settings: LaunchSettings, limits: Limits, engines: Path, config: str, extra: tuple[str, ...]
) -> int:
    log = settings.log or _temporary_log()
    ports = claim(Ports(settings.grpc_port, settings.http_port, settings.metrics_port), settings.host)
    triton = TritonAddress(claim(Ports(0, 0, 0), INSIDE, vars(ports).values()), secrets.token_hex(16))
    certificates = tls.from_options(settings.tls_cert, settings.tls_key, settings.tls_ca)
    extra += trace_options(settings.trace_url)
    manifest = Manifest.read(engines)
    model = served_model(manifest)

    def start() -> Server:
        usage = door.usage_socket
        return Server(
            config, settings.folder, log, triton.ports, INSIDE, extra, triton.key, usage_socket=usage
        )

    def on_ready() -> None:
        keys = "" if settings.api_keys is None else " (API key)"
        scheme = "" if certificates is None else " (TLS)" if certificates.ca is None else " (mutual TLS)"
        print("Ctrl-C stops it")
        print(f"  {model}")
        print(f"  gRPC     {door.url}{scheme}{keys}")
        print(f"  HTTP     http{'s' if certificates else ''}://{location(door.host, door.ports.http)}")
        print(f"  page     http{'s' if certificates else ''}://{location(door.host, door.ports.http)}/")
        print(f"  metrics  http://{location(door.metrics_host, door.ports.metrics)}/metrics", flush=True)

    with Door(
        triton,
        settings.host,
        ports,
        settings.hearing(limits, manifest.limits.max_clip_seconds),
        certificates,
        origins=settings.allow_origin,
        metrics_host=settings.metrics_host,
        voices=available_voices(engines),
        api_keys=settings.api_keys,
        realtime=RealtimeLimits.of_model(manifest.limits.max_clip_seconds, manifest.limits.max_output_tokens),
    ) as door:
        if settings.api_keys is not None or certificates is not None:
            signal.signal(signal.SIGHUP, lambda number, frame: _reload(door))
        print(f"starting tritonserver ({config}), log in {log}", flush=True)
        supervisor = Supervisor(
            door, start, Patience(READY_TIMEOUT_S[config]), lambda line: print(line, flush=True)
        )
        try:
            supervisor.run(on_ready)
        except KeyboardInterrupt:
            print("stopped")
    return 0


def _reload(door: Door) -> None:
    try:
        door.reload()
        print("read again: API keys, certificates", flush=True)
    except (KeyFileError, tls.TlsError) as error:
        print(f"{error}; going on with those before", file=sys.stderr, flush=True)


def _temporary_log() -> Path:
    handle, name = tempfile.mkstemp(prefix="af3-server-", suffix=".log")
    os.close(handle)
    return Path(name)


def target_of(target: str, llm: str | None) -> str:
    """The folder of engines for GPU= and LLM=."""
    if llm != "vllm" or target == "rtx":
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


if __name__ == "__main__":
    sys.exit(main())
