"""`make serve` for a GPU outside the container: what TensorRT-LLM needs is in the image, so Docker starts that."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from af3.manifest import ManifestError
from serving.host.launch_settings import LaunchSettings, option_of
from serving.machine import container, doctor, gpu, install

PORTS = {"http_port": 8000, "grpc_port": 8001, "metrics_port": 8002}  # inside


def is_inside() -> bool:
    """True in a container that has Triton with NVIDIA's backends."""
    return install.CONTAINER_SERVER.is_file()


def serve(settings: LaunchSettings) -> int:
    """Become `docker run` of the server; returns 2, with the command and what is missing for it, where it cannot."""
    engines = settings.folder / "engines"
    command = container.serve_command(
        settings.target,
        engines,
        [f"{_host(settings, name)}:{getattr(settings, name)}:{port}" for name, port in PORTS.items()],
        sorted({path.parent for path in _files(settings)}),
        list(_passed_on(settings)),
    )
    print(f"$ {shlex.join(command)}", flush=True)
    missing = doctor.missing_to_serve(settings.target, settings.engines)
    if missing:
        print("missing here, in the order to get it:", file=sys.stderr)
        print(doctor.report(missing), file=sys.stderr)
        return 2
    try:
        gpu.link_engines(settings.engines)  # inside, the folder is read-only
    except ManifestError as error:
        print(error, file=sys.stderr)
        return 2
    return os.execvp(command[0], command)  # does not return


def _passed_on(settings: LaunchSettings) -> Iterator[str]:
    """Every option that was given, but those that Docker sees to: address, ports and folder."""
    seen_to = {"target", "folder", "host", "metrics_host", *PORTS}
    for name, value in settings.given().items():
        if name in seen_to:
            continue
        for one in value if isinstance(value, tuple) else [value]:
            yield option_of(name)
            yield str(one.resolve() if isinstance(one, Path) else one)


def _host(settings: LaunchSettings, port_name: str) -> str:
    """The address of this machine that a port is published on."""
    return (settings.metrics_host if port_name == "metrics_port" else None) or settings.host


def _files(settings: LaunchSettings) -> list[Path]:
    """Files that options name, absolute."""
    given = settings.given().items()
    return [value.resolve() for name, value in given if isinstance(value, Path) and name != "folder"]
