"""What the chart's objects of other projects may hold, as far as their documentation says and the chart goes near it.

Written by hand from the API references of KEDA 2.22, the Gateway API v1 and its Inference Extension v1, the Prometheus
operator and KServe 0.20; not their schemas. Stricter than those: a field that is not here is refused, so
that a misspelt one is.
"""

from __future__ import annotations

from typing import Any

import jsonschema
import kubernetes_validate

KUBERNETES = "1.35"
TEXT = {"type": "string", "minLength": 1}
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
COUNT = {"type": "integer", "minimum": 0}
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$"}
LABELS = {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1}


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any], least: int = 1, most: int = 1000) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


SELECTOR = _object({"matchLabels": LABELS})
BEHAVIOUR = {"type": "object"}  # Kubernetes' own, checked as part of its HorizontalPodAutoscaler
PROMETHEUS = _object(
    {
        "serverAddress": TEXT,
        "query": TEXT,
        "threshold": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"},
    },
    activationThreshold={"type": "string"},
    namespace=TEXT,
    ignoreNullValues={"enum": ["true", "false"]},
    unsafeSsl={"enum": ["true", "false"]},
)
PARENTS = _list(_object({"name": NAME}, namespace=NAME, sectionName=NAME, port=PORT, group=TEXT, kind=TEXT))
BACKENDS = _list(_object({"name": NAME, "port": PORT}, namespace=NAME, weight=COUNT))
ROUTE_TIMEOUTS = _object({}, request=DURATION, backendRequest=DURATION)
SPECS: dict[tuple[str, str], dict[str, Any]] = {
    ("keda.sh/v1alpha1", "ScaledObject"): _object(
        {
            "scaleTargetRef": _object(
                {"name": NAME}, apiVersion=TEXT, kind=TEXT, envSourceContainerName=TEXT
            ),
            "triggers": _list(
                _object(
                    {"type": {"const": "prometheus"}, "metadata": PROMETHEUS},
                    name=TEXT,
                    metricType={"enum": ["AverageValue", "Value", "Utilization"]},
                    useCachedMetrics={"type": "boolean"},
                )
            ),
        },
        pollingInterval=COUNT,
        cooldownPeriod=COUNT,
        initialCooldownPeriod=COUNT,
        idleReplicaCount=COUNT,
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        fallback=_object({"failureThreshold": COUNT, "replicas": COUNT}),
        advanced=_object(
            {},
            restoreToOriginalReplicaCount={"type": "boolean"},
            horizontalPodAutoscalerConfig=_object({}, name=NAME, behavior=BEHAVIOUR),
        ),
    ),
    ("inference.networking.k8s.io/v1", "InferencePool"): _object(
        {
            "selector": SELECTOR,
            "targetPorts": _list(_object({"number": PORT}), most=8),
            "endpointPickerRef": _object(
                {"name": NAME, "port": _object({"number": PORT})},
                group={"type": "string"},
                kind=TEXT,
                failureMode={"enum": ["FailOpen", "FailClose"]},
            ),
        },
        appProtocol={"enum": ["http", "kubernetes.io/h2c"]},
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): _object(
        {"parentRefs": PARENTS, "rules": _list(_object({"backendRefs": BACKENDS}, timeouts=ROUTE_TIMEOUTS))},
        hostnames=_list(TEXT, most=16),
    ),
    ("gateway.networking.k8s.io/v1", "GRPCRoute"): _object(
        {"parentRefs": PARENTS, "rules": _list(_object({"backendRefs": BACKENDS}))},
        hostnames=_list(TEXT, most=16),
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): _object(
        {
            "selector": SELECTOR,
            "podMetricsEndpoints": _list(
                _object(
                    {"port": TEXT},
                    path={"type": "string", "pattern": "^/"},
                    interval=DURATION,
                    scrapeTimeout=DURATION,
                    scheme={"enum": ["http", "https"]},
                    honorLabels={"type": "boolean"},
                )
            ),
        },
        jobLabel=TEXT,
        namespaceSelector={"type": "object"},
        podTargetLabels=_list(TEXT),
        sampleLimit=COUNT,
    ),
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): _object(
        {
            "supportedModelFormats": _list(
                _object(
                    {"name": TEXT}, version=TEXT, autoSelect={"type": "boolean"}, priority={"type": "integer"}
                )
            ),
            "containers": _list({"type": "object", "required": ["name", "image"]}),
        },
        protocolVersions=_list({"enum": ["v1", "v2", "grpc-v1", "grpc-v2"]}),
        multiModel={"type": "boolean"},
        disabled={"type": "boolean"},
        annotations=LABELS,
        labels=LABELS,
        volumes=_list({"type": "object"}),
    ),
}


class Invalid(Exception):
    """An object that a server with these schemas would refuse."""


def check(document: dict[str, Any]) -> None:
    """Kubernetes' own objects by its schemas, those of others by the ones above. Raises Invalid."""
    schema = SPECS.get((document["apiVersion"], document["kind"]))
    try:
        if schema is None:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
            return
        if extra := document.keys() - {"apiVersion", "kind", "metadata", "spec"}:
            raise Invalid(f"{document['kind']}: unknown field {sorted(extra)[0]}")
        jsonschema.validate(document["spec"], schema)
        for part in _kubernetes_parts(document):
            kubernetes_validate.validate(part, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise Invalid(f"{document['kind']}: {error.message}") from None
    except jsonschema.ValidationError as error:
        raise Invalid(f"{document['kind']}: {error.json_path}: {error.message}") from None


def _kubernetes_parts(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The Kubernetes objects inside an object of another project, each as an object."""
    metadata, spec = {"name": "part"}, document["spec"]
    if document["kind"] == "ServingRuntime":
        pod = {"containers": spec["containers"], "volumes": spec.get("volumes", [])}
        return [{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}]
    if document["kind"] == "ScaledObject":
        config = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {})
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec["scaleTargetRef"]["name"]}
        scaler = {"scaleTargetRef": target, "maxReplicas": 1, "behavior": config.get("behavior", {})}
        kind = "HorizontalPodAutoscaler"
        return [{"apiVersion": "autoscaling/v2", "kind": kind, "metadata": metadata, "spec": scaler}]
    return []
