"""`make serve` for a GPU outside the container: what TensorRT-LLM needs is in the image, so Docker starts that."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from af3.manifest import ManifestError
from serving.machine import container, doctor, gpu, install

PORTS = {"http_port": 8000, "grpc_port": 8001, "metrics_port": 8002}  # inside


def is_inside() -> bool:
    """Whether this is a container that brings Triton with NVIDIA's backends."""
    return install.CONTAINER_SERVER.is_file()


def serve(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Become `docker run` of the server; returns 2, with the command and what is missing for it, where it cannot.

    arguments: what serving.host.launch was called with, parsed by `parser`.
    """
    engines = arguments.folder / "engines"
    command = container.serve_command(
        arguments.target,
        engines,
        [f"{_host(arguments, name)}:{getattr(arguments, name)}:{port}" for name, port in PORTS.items()],
        sorted({path.parent for path in _files(arguments)}),
        list(_passed_on(arguments, parser)),
    )
    print(f"$ {shlex.join(command)}", flush=True)
    missing = doctor.missing_to_serve(arguments.target, engines / arguments.target)
    if missing:
        print("missing here, in the order to get it:", file=sys.stderr)
        print(doctor.report(missing), file=sys.stderr)
        return 2
    try:
        gpu.link_engines(engines / arguments.target)  # inside, the folder is read-only
    except ManifestError as error:
        print(error, file=sys.stderr)
        return 2
    return os.execvp(command[0], command)  # does not return


def _passed_on(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every option that was given, but those that Docker sees to: address, ports and folder."""
    seen_to = {"target", "folder", "host", "metrics_host", *PORTS}
    for name, value in vars(arguments).items():
        if name in seen_to or value == parser.get_default(name):
            continue
        for one in value if isinstance(value, list) else [value]:
            yield f"--{name.replace('_', '-')}"
            if not isinstance(one, bool):
                yield str(one.resolve() if isinstance(one, Path) else one)


def _host(arguments: argparse.Namespace, port_name: str) -> str:
    """The address of this machine that a port is published on."""
    return (arguments.metrics_host if port_name == "metrics_port" else None) or arguments.host


def _files(arguments: argparse.Namespace) -> list[Path]:
    """Files that options name, absolute."""
    named = (value for name, value in vars(arguments).items() if name != "folder")
    return [value.resolve() for value in named if isinstance(value, Path)]
