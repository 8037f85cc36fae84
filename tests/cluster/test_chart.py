"""The Helm chart, rendered by the real helm and judged by Kubernetes' own schemas. Never applied to a cluster."""

import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "deploy" / "chart"
KUBERNETES = "1.35"
VALUES = ("cpu", "trtllm", "vllm")
KINDS_OF_OTHERS = {"PodMonitor", "ScaledObject", "InferencePool", "ServingRuntime", "HTTPRoute", "GRPCRoute"}
SETTINGS = {
    "plain": (),
    "routing-none": ("routing.kind=none",),
    "inference-pool": ("routing.kind=inferencePool",),
    "kserve": ("kserve.enabled=true",),
    "oci-engines": (
        "engines.source=image",
        "engines.image.reference=registry.example/engines:1",
        "build.enabled=false",
    ),
    "tls": ("tls.secret=cert",),
    "names": ("stableNames=true", "autoscaling.enabled=true", "build.enabled=true"),
    "names-of-three": ("stableNames=true", "replicas=3", "autoscaling.enabled=false"),
    "names-tls": (
        "stableNames=true",
        "replicas=3",
        "tls.secret=cert",
        "tls.mutual=true",
        "autoscaling.enabled=false",
    ),
    "keys": ("apiKeys.secret=keys",),
    "mutual-tls": ("tls.secret=cert", "tls.mutual=true"),
    "outside": (
        "ingress.enabled=true",
        "ingress.host=af3.example",
        "ingress.tlsSecret=cert",
        "gateway.enabled=true",
        "gateway.parentRefs[0].name=public",
        "gateway.hostnames[0]=af3.example",
    ),
    "all": ("build.enabled=true", "podMonitor.enabled=true", "autoscaling.enabled=true"),
}
BUILD = "build.enabled=true"
SERVERS = ("Deployment", "StatefulSet")
CASES = [(values, name) for values in VALUES for name in SETTINGS]


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("helm", path=str(Path(sys.executable).parent)) or shutil.which("helm")
    if program is None:
        pytest.skip("helm is not installed; `make test-cluster` installs it")
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


@cache
def rendered(values: str, name: str) -> tuple[dict[str, Any], ...]:
    chosen = [one for one in SETTINGS[name] if values != "vllm" or one != BUILD]  # built elsewhere
    settings = [word for setting in ("image.tag=0.1.0", *chosen) for word in ("--set", setting)]
    done = helm("template", "af3", str(CHART), "--values", str(CHART / f"values-{values}.yaml"), *settings)
    assert done.returncode == 0, done.stderr
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def of_kind(documents: tuple[dict[str, Any], ...], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def pods(documents: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    return [document["spec"]["template"] for document in documents if document["kind"] in (*SERVERS, "Job")]


@pytest.mark.parametrize("values", VALUES)
def test_helm_lint_finds_nothing(values):
    done = helm(
        "lint",
        "--strict",
        str(CHART),
        "--values",
        str(CHART / f"values-{values}.yaml"),
        "--set",
        "image.tag=0.1.0",
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("values", "name"), CASES)
def test_every_object_is_valid_by_its_schema(values, name):
    validate = pytest.importorskip("kubernetes_validate", reason="`make test-cluster` installs it")
    for document in rendered(values, name):
        if document["kind"] not in KINDS_OF_OTHERS:
            validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize(("values", "name"), CASES)
def test_a_pod_is_bounded_and_has_no_rights(values, name):
    for pod in pods(rendered(values, name)):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]
            assert re.search(r"(:[\w.-]+|@sha256:[0-9a-f]{64})$", container["image"])
            assert not container["image"].endswith(":latest")


@pytest.mark.parametrize(("values", "name"), CASES)
def test_servers_are_probed_drained_and_given_time(values, name):
    found = [one for kind in SERVERS for one in of_kind(rendered(values, name), kind)]
    assert found
    for deployment in found:
        spec = deployment["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
        wait = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert spec["terminationGracePeriodSeconds"] >= max(60, wait + 35)  # the door drains 20 s, Triton 15
        if deployment["kind"] == "Deployment":
            assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


@pytest.mark.parametrize(("values", "name"), CASES)
def test_selectors_find_their_pods(values, name):
    documents = rendered(values, name)
    labels = [pod["metadata"]["labels"] for pod in pods(documents)]
    selectors = [
        *(document["spec"]["selector"] for document in of_kind(documents, "Service")),
        *(document["spec"]["selector"]["matchLabels"] for kind in (*SERVERS, "PodDisruptionBudget", "PodMonitor")
          for document in of_kind(documents, kind)),
        *(document["spec"]["podSelector"]["matchLabels"] for document in of_kind(documents, "NetworkPolicy")),
        *(document["spec"]["selector"]["matchLabels"] for document in of_kind(documents, "InferencePool")),
    ]  # fmt: skip
    assert selectors
    for selector in selectors:
        assert any(selector.items() <= found.items() for found in labels), selector


@pytest.mark.parametrize("values", ["trtllm", "vllm"])
def test_a_gpu_server_asks_for_its_gpu(values):
    for pod in pods(rendered(values, "routing-none")):
        (container,) = pod["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def envoy_clusters(documents: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    (config,) = of_kind(documents, "ConfigMap")
    found: list[dict[str, Any]] = yaml.safe_load(config["data"]["envoy.yaml"])["static_resources"]["clusters"]
    return found


@pytest.mark.parametrize(("name", "count"), [("names", 8), ("names-tls", 3)])
def test_servers_that_keep_their_names_have_one_key_on_both_rings(name, count):
    documents = rendered("trtllm", name)
    (servers,) = of_kind(documents, "StatefulSet")
    headless = next(one for one in of_kind(documents, "Service") if one["spec"].get("clusterIP") == "None")
    assert servers["spec"]["serviceName"] == headless["metadata"]["name"]
    expected = [f"{servers['metadata']['name']}-{number}" for number in range(count)]
    for cluster in envoy_clusters(documents):
        (locality,) = cluster["load_assignment"]["endpoints"]
        hosts = [one["endpoint"]["address"]["socket_address"] for one in locality["lb_endpoints"]]
        keys = [
            one["metadata"]["filter_metadata"]["envoy.lb"]["hash_key"] for one in locality["lb_endpoints"]
        ]
        assert keys == expected
        service = f"{headless['metadata']['name']}.default.svc"
        assert [host["address"] for host in hosts] == [f"{one}.{service}" for one in expected]
        assert {host["port_value"] for host in hosts} == {8001 if cluster["name"] == "servers-grpc" else 8000}
    if name == "names":
        (scaled,) = of_kind(documents, "ScaledObject")
        assert scaled["spec"]["scaleTargetRef"] == {"name": "af3", "kind": "StatefulSet"}
        assert scaled["spec"]["maxReplicaCount"] == count


@pytest.mark.parametrize("name", SETTINGS)
def test_a_server_that_leaves_the_list_gets_nothing_more(name):
    documents = rendered("cpu", name)
    if of_kind(documents, "ConfigMap"):
        for cluster in envoy_clusters(documents):
            assert cluster["ignore_health_on_host_removal"] is True


@pytest.mark.parametrize(("values", "name"), CASES)
def test_servers_hear_envoy_and_the_monitoring_alone_and_call_nobody(values, name):
    documents = rendered(values, name)
    (policy,) = (one for one in of_kind(documents, "NetworkPolicy") if one["metadata"]["name"] == "af3")
    spec = policy["spec"]
    assert (spec["policyTypes"], spec["egress"]) == (["Ingress", "Egress"], [])
    asking, scraping = spec["ingress"]
    assert {port["port"] for port in asking["ports"]} == {"http", "grpc"}
    assert [port["port"] for port in scraping["ports"]] == ["metrics"]
    if of_kind(documents, "ConfigMap"):  # Envoy's
        (peer,) = asking["from"]
        assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "envoy"


def server_pod(name: str) -> dict[str, Any]:
    return next(
        pod["spec"] for pod in pods(rendered("cpu", name))
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "server"
    )  # fmt: skip


def test_api_keys_come_from_their_secret_and_nowhere_else():
    assert "api-keys" not in json.dumps(server_pod("plain"))
    spec = server_pod("keys")
    (container,) = spec["containers"]
    (option,) = (word for word in container["args"] if word.startswith("--api-keys="))
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == "api-keys")
    assert option == f"--api-keys={mount['mountPath']}/keys.json"
    assert mount["readOnly"] is True
    (volume,) = (one for one in spec["volumes"] if one["name"] == "api-keys")
    assert volume["secret"] == {
        "secretName": "keys",
        "defaultMode": 0o440,
    }  # the door refuses what others may write


def test_the_time_after_which_a_silent_server_is_given_up_is_a_value():
    done = helm("template", "af3", str(CHART), "--set", "image.tag=0.1.0,routing.envoy.silenceSeconds=30")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("per_try_idle_timeout: 30s") == 1


def test_a_scaled_deployment_leaves_its_size_to_keda():
    documents = rendered("cpu", "all")
    server = next(
        document for document in of_kind(documents, "Deployment") if document["metadata"]["name"] == "af3"
    )
    assert "replicas" not in server["spec"]
    (scaled,) = of_kind(documents, "ScaledObject")
    assert scaled["spec"]["scaleTargetRef"]["name"] == "af3"
    queries = [trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]]
    assert "af3_llm_waiting" in queries[0]
    assert "af3_time_to_first_token_seconds_bucket" in queries[1]
    assert scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"][
        "stabilizationWindowSeconds"
    ] >= 300  # fmt: skip


@pytest.mark.parametrize("setting", ["replica=3", "image.tag=latest", "routing.kind=nginx", "gracePeriodSeconds=10",
                                     "image.digest=sha256:1"])  # fmt: skip
def test_a_wrong_value_is_refused(setting):
    done = helm("template", "af3", str(CHART), "--set", "image.tag=0.1.0", "--set", setting)
    assert done.returncode != 0
    assert "schema" in done.stderr


def test_an_image_without_a_version_is_refused_with_what_to_do():
    done = helm("template", "af3", str(CHART))
    assert done.returncode != 0
    assert "image.tag: name the version to run" in done.stderr


def test_an_upgrade_recreates_nothing_that_has_state():
    """Claims and selectors stay as they are from one values file to the next."""
    for name in ("PersistentVolumeClaim", "Deployment", "Service"):
        found = [
            {
                document["metadata"]["name"]: document["spec"].get(
                    "selector", document["spec"].get("accessModes")
                )
                for document in of_kind(rendered(values, "plain"), name)
            }
            for values in VALUES
        ]
        assert found[0] == found[1] == found[2] != {}
    (claim,) = of_kind(rendered("cpu", "plain"), "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize("name", ["plain", "names"])
def test_envoy_gets_the_configuration_that_runs_here(name, envoy, tmp_path):
    (config,) = of_kind(rendered("cpu", name), "ConfigMap")
    text = config["data"]["envoy.yaml"]
    assert "af3-servers.default.svc" in text
    assert "servers.audio-flamingo" not in text
    (tmp_path / "envoy.yaml").write_text(text)
    words = [str(envoy), "--mode", "validate", "--use-dynamic-base-id", "-c", str(tmp_path / "envoy.yaml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
