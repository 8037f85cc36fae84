"""A stand-in for a Kubernetes API server, as much of it as `kubectl apply --server-side` and `kubectl diff` need.

It keeps objects, refuses what its schemas refuse (tests.support.custom_schemas) and changes of what Kubernetes never
changes. Nothing is scheduled, nothing runs: it says what a cluster would take, not what it would do.
"""

from __future__ import annotations

import copy
import http.server
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from deploy.loopback import Running
from tests.support.custom_schemas import Invalid, check
from tests.support.in_threads import HttpServer, in_thread

# Plural name → apiVersion and kind of all that is served.
RESOURCES = {
    "configmaps": ("v1", "ConfigMap"),
    "secrets": ("v1", "Secret"),
    "services": ("v1", "Service"),
    "serviceaccounts": ("v1", "ServiceAccount"),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim"),
    "deployments": ("apps/v1", "Deployment"),
    "statefulsets": ("apps/v1", "StatefulSet"),
    "jobs": ("batch/v1", "Job"),
    "poddisruptionbudgets": ("policy/v1", "PodDisruptionBudget"),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy"),
    "ingresses": ("networking.k8s.io/v1", "Ingress"),
    "httproutes": ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    "grpcroutes": ("gateway.networking.k8s.io/v1", "GRPCRoute"),
    "scaledobjects": ("keda.sh/v1alpha1", "ScaledObject"),
    "podmonitors": ("monitoring.coreos.com/v1", "PodMonitor"),
    "inferencepools": ("inference.networking.k8s.io/v1", "InferencePool"),
    "servingruntimes": ("serving.kserve.io/v1alpha1", "ServingRuntime"),
}
# What an object keeps for its life (API reference of each kind); a change is refused.
IMMUTABLE = {
    "Deployment": (("spec", "selector"),),
    "StatefulSet": (("spec", "selector"), ("spec", "serviceName"), ("spec", "podManagementPolicy")),
    "PersistentVolumeClaim": (("spec", "accessModes"), ("spec", "storageClassName"), ("spec", "volumeName")),
    "Job": (("spec", "template"), ("spec", "selector"), ("spec", "completions")),
    "Service": (("spec", "clusterIP"),),
}
Json = dict[str, Any]


class KubernetesApi(Running):
    """`objects`: by kind and name. A context manager; `kubeconfig(folder)` is what kubectl needs to find it."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[tuple[str, str], Json] = {}
        self._lock = threading.Lock()
        self._count = 0

    def open(self) -> None:
        handler = type("Handler", (_Handler,), {"api": self})
        server = HttpServer(("127.0.0.1", 0), handler)
        self._port = self.stack.enter_context(in_thread(server))

    def kubeconfig(self, folder: Path) -> Path:
        path = folder / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{self._port}"}}],
            "contexts": [
                {"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "default"}}
            ],
            "users": [{"name": "me", "user": {}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def apply(self, name: str, given: Json, dry_run: bool) -> tuple[int, Json]:
        """Server-side apply by the one who owns every field: what was left out is gone."""
        with self._lock:
            key = (given["kind"], name)
            old = self.objects.get(key)
            try:
                check(given)
                new = self._merged(old, given)
            except Invalid as error:
                return 422, status(422, "Invalid", str(error))
            if not dry_run:
                self.objects[key] = new
            return (201 if old is None else 200), new

    def _merged(self, old: Json | None, given: Json) -> Json:
        new = copy.deepcopy(given)
        new["metadata"].setdefault("namespace", "default")
        if given["kind"] == "Service" and "clusterIP" not in given["spec"]:
            new["spec"]["clusterIP"] = "10.0.0.1" if old is None else old["spec"]["clusterIP"]
        for path in IMMUTABLE.get(given["kind"], ()):
            if old is not None and _at(old, path) != _at(new, path):
                raise Invalid(
                    f"{given['kind']} {given['metadata']['name']}: {'.'.join(path)}: field is immutable"
                )
        if given["kind"] == "PersistentVolumeClaim" and old is not None and _size(new) < _size(old):
            raise Invalid(f"PersistentVolumeClaim {new['metadata']['name']}: a claim cannot become smaller")
        kept = {} if old is None else old["metadata"]
        self._count += 1
        new["metadata"]["uid"] = kept.get("uid", f"00000000-0000-0000-0000-{self._count:012}")
        new["metadata"]["creationTimestamp"] = kept.get("creationTimestamp", "2026-01-01T00:00:00Z")
        same = old is not None and _plain(old) == _plain(new)
        new["metadata"]["resourceVersion"] = kept["resourceVersion"] if same else str(self._count)
        return new


def _size(claim: Json) -> int:
    """GiB."""
    text = claim["spec"]["resources"]["requests"]["storage"]
    assert text.endswith("Gi"), text
    return int(text.removesuffix("Gi"))


def status(code: int, reason: str, message: str) -> Json:
    words = {"status": "Failure", "code": code, "reason": reason, "message": message}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, **words}


class _Handler(http.server.BaseHTTPRequestHandler):
    api: KubernetesApi
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.strip("/")
        found = discovery(path)
        if found is not None:
            self._reply(200, found)
            return
        plural, name = _resource(path)
        kept = self.api.objects.get((RESOURCES[plural][1], name)) if plural in RESOURCES else None
        if kept is None:
            self._reply(404, status(404, "NotFound", f'{plural} "{name}" not found'))
            return
        self._reply(200, kept)

    def do_PATCH(self) -> None:
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        body = self.rfile.read(int(self.headers["content-length"]))
        if "apply-patch" not in self.headers["content-type"]:
            self._reply(415, status(415, "UnsupportedMediaType", "only server-side apply is served"))
            return
        _, name = _resource(address.path.strip("/"))
        self._reply(*self.api.apply(name, yaml.safe_load(body), "All" in query.get("dryRun", [])))

    def _reply(self, code: int, found: Mapping[str, Any]) -> None:
        body = json.dumps(found).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


def discovery(path: str) -> Json | None:
    """Discovery: versions, groups, resources, and that the server checks fields (`fieldValidation`)."""
    versions = sorted({version for version, _ in RESOURCES.values()})
    if path == "version":
        return {"major": "1", "minor": "35", "gitVersion": "v1.35.0"}
    if path == "api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "apis":
        groups = [_group(version) for version in versions if "/" in version]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    if path == "openapi/v3":
        return {
            "paths": {_prefix(one): {"serverRelativeURL": f"/openapi/v3/{_prefix(one)}"} for one in versions}
        }
    for version in versions:
        if path == _prefix(version):
            return _resources(version)
        if path == f"openapi/v3/{_prefix(version)}":
            return _openapi(version)
    return None


def _group(version: str) -> Json:
    name, _, number = version.partition("/")
    served = {"groupVersion": version, "version": number}
    return {"name": name, "versions": [served], "preferredVersion": served}


def _resources(version: str) -> Json:
    found = [
        {
            "name": plural,
            "singularName": kind.lower(),
            "namespaced": True,
            "kind": kind,
            "verbs": ["get", "patch"],
        }
        for plural, (own, kind) in RESOURCES.items()
        if own == version
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": found}


def _openapi(version: str) -> Json:
    group, _, number = version.rpartition("/")
    paths = {}
    for plural, (own, kind) in RESOURCES.items():
        if own == version:
            names = ("fieldValidation", "dryRun", "fieldManager", "force")
            patch = {
                "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names],
                "x-kubernetes-group-version-kind": {"group": group, "version": number, "kind": kind},
                "responses": {},
            }
            paths[f"/{_prefix(version)}/namespaces/{{namespace}}/{plural}/{{name}}"] = {"patch": patch}
    return {
        "openapi": "3.0.0",
        "info": {"title": "stand-in", "version": "1"},
        "paths": paths,
        "components": {},
    }


def _prefix(version: str) -> str:
    return f"apis/{version}" if "/" in version else f"api/{version}"


def _resource(path: str) -> tuple[str, str]:
    parts = path.split("/")
    return (parts[-2], parts[-1]) if len(parts) > 2 else (path, "")


def _at(document: Json, path: tuple[str, ...]) -> Any:
    found: Any = document
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _plain(document: Json) -> Json:
    return {**document, "metadata": {k: v for k, v in document["metadata"].items() if k != "resourceVersion"}}
