"""What a user sets in a values file of his own reaches the pods, and can be changed in an upgrade."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.test_chart import CHART, SERVERS, envoy_clusters, helm, of_kind

pytest.importorskip("kubernetes_validate", reason="`make test-cluster` installs it")
from tests.cluster.test_apply import kubectl
from tests.support.custom_schemas import check
from tests.support.kubernetes_api import KubernetesApi

ROOT = Path(__file__).parents[2]
TOLERATION = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
NEAR = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
    {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h100"]}]}]}}}  # fmt: skip
PLACE = {
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [TOLERATION],
    "affinity": NEAR,
    "priorityClassName": "high",
}
OWN_SPREAD = [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]


def given(folder: Path, own: dict[str, Any], base: str = "cpu") -> tuple[dict[str, Any], ...]:
    """The chart with a values file of one's own after the chart's; every object is valid."""
    file = folder / "own.yaml"
    file.write_text(yaml.safe_dump({"image": {"tag": "0.1.0"}, **own}))
    done = helm("template", "af3", str(CHART), "-f", str(CHART / f"values-{base}.yaml"), "-f", str(file))
    assert done.returncode == 0, done.stderr
    documents = tuple(document for document in yaml.safe_load_all(done.stdout) if document)
    for document in documents:
        check(document)
    return documents


def pod(documents: tuple[dict[str, Any], ...], component: str) -> dict[str, Any]:
    (found,) = (
        document["spec"]["template"] for document in documents
        if document["kind"] in (*SERVERS, "Job")
        and document["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == component
    )  # fmt: skip
    template: dict[str, Any] = found
    return template


def service(documents: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    (found,) = (one for one in of_kind(documents, "Service") if one["metadata"]["name"] == "af3")
    return found


def test_where_pods_run_is_a_value_of_servers_and_build_and_another_of_envoy(tmp_path: Path) -> None:
    own = {
        **PLACE, "runtimeClassName": "nvidia", "build": {"enabled": True},
        "image": {"tag": "0.1.0", "pullSecrets": [{"name": "registry"}]},
        "routing": {"envoy": {**PLACE, "nodeSelector": {"pool": "edge"}}},
        "topologySpreadConstraints": OWN_SPREAD,
    }  # fmt: skip
    documents = given(tmp_path, own)
    for component in ("server", "engines", "envoy"):
        spec = pod(documents, component)["spec"]
        assert spec["nodeSelector"] == {"pool": "edge" if component == "envoy" else "gpu"}
        assert spec["tolerations"] == [TOLERATION]
        assert spec["affinity"] == NEAR
        assert spec["priorityClassName"] == "high"
        assert spec.get("runtimeClassName") == (None if component == "envoy" else "nvidia")
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert pod(documents, "server")["spec"]["topologySpreadConstraints"] == OWN_SPREAD


def test_annotations_labels_environment_and_volumes_are_added_to_the_charts_own(tmp_path: Path) -> None:
    volume = {"name": "adapters", "persistentVolumeClaim": {"claimName": "adapters"}}
    mount = {"name": "adapters", "mountPath": "/adapters"}
    own = {
        "podAnnotations": {"linkerd.io/inject": "enabled"}, "podLabels": {"team": "sound"},
        "serviceAccountAnnotations": {"role": "reader"}, "extraArgs": ["--max-in-flight", 96],
        "extraEnv": [{"name": "AF3_LOG", "value": "json"}], "extraVolumes": [volume], "extraVolumeMounts": [mount],
        "service": {"type": "LoadBalancer", "annotations": {"internal": "true"}, "loadBalancerClass": "own",
                    "loadBalancerSourceRanges": ["10.0.0.0/8"]},
    }  # fmt: skip
    documents = given(tmp_path, own)
    for component in ("server", "envoy"):
        metadata = pod(documents, component)["metadata"]
        assert metadata["annotations"]["linkerd.io/inject"] == "enabled"
        assert metadata["labels"]["team"] == "sound"
    assert "checksum/config" in pod(documents, "envoy")["metadata"]["annotations"]
    spec = pod(documents, "server")["spec"]
    (server,) = spec["containers"]
    assert server["args"][-2:] == ["--max-in-flight", "96"]
    assert own["extraEnv"][0] in server["env"]
    assert volume in spec["volumes"]
    assert mount in server["volumeMounts"]
    (account,) = of_kind(documents, "ServiceAccount")
    assert account["metadata"]["annotations"] == {"role": "reader"}
    found = service(documents)
    assert found["metadata"]["annotations"] == {"internal": "true"}
    expected = ("LoadBalancer", "own", ["10.0.0.0/8"])
    assert (
        tuple(found["spec"][name] for name in ("type", "loadBalancerClass", "loadBalancerSourceRanges"))
        == expected
    )


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_any_number_of_servers(count: int, named: bool, tmp_path: Path) -> None:
    documents = given(tmp_path, {"replicas": count, "stableNames": named})
    (server,) = of_kind(documents, "StatefulSet" if named else "Deployment")[:1]
    servers = [
        one for kind in SERVERS for one in of_kind(documents, kind) if one["metadata"]["name"] == "af3"
    ]
    assert [one["spec"]["replicas"] for one in servers] == [count]
    assert server["spec"]["template"]
    if named:
        for cluster in envoy_clusters(documents):
            (locality,) = cluster["load_assignment"]["endpoints"]
            assert len(locality["lb_endpoints"]) == count


def test_a_claim_that_exists_is_used_and_none_is_made(tmp_path: Path) -> None:
    own = {"engines": {"pvc": {"existing": "mine"}}, "build": {"enabled": True}}
    documents = given(tmp_path, own)
    assert not of_kind(documents, "PersistentVolumeClaim")
    for component in ("server", "engines"):
        volumes = pod(documents, component)["spec"]["volumes"]
        assert {"name": "engines", "persistentVolumeClaim": {"claimName": "mine"}} in volumes


def test_the_service_is_reached_from_outside_by_an_ingress_or_a_gateway(tmp_path: Path) -> None:
    parent = {"name": "public", "namespace": "gateways"}
    own = {
        "ingress": {"enabled": True, "host": "af3.example", "className": "own", "tlsSecret": "cert"},
        "gateway": {"enabled": True, "parentRefs": [parent]},
    }
    documents = given(tmp_path, own)
    ports = {one["name"]: one["port"] for one in service(documents)["spec"]["ports"]}
    (ingress,) = of_kind(documents, "Ingress")
    (rule,) = ingress["spec"]["rules"]
    assert (rule["host"], ingress["spec"]["tls"]) == (
        "af3.example",
        [{"secretName": "cert", "hosts": ["af3.example"]}],
    )
    assert rule["http"]["paths"][0]["backend"]["service"] == {"name": "af3", "port": {"name": "http"}}
    for kind, name in (("HTTPRoute", "http"), ("GRPCRoute", "grpc")):
        (route,) = of_kind(documents, kind)
        assert route["spec"]["parentRefs"] == [parent]
        assert route["spec"]["rules"][0]["backendRefs"] == [{"name": "af3", "port": ports[name]}]


def test_by_what_a_slow_server_is_known_is_a_value(tmp_path: Path) -> None:
    documents = given(tmp_path, {"routing": {"envoy": {"slow": {"factor": 3, "seconds": 1.5}, "workers": 4}}})
    (config,) = of_kind(documents, "ConfigMap")
    assert config["data"]["envoy.yaml"].count("local FACTOR = 3\n") == 1
    assert config["data"]["envoy.yaml"].count("local LEAST_MS = 1500\n") == 1
    (envoy,) = pod(documents, "envoy")["spec"]["containers"]
    assert envoy["args"][-2:] == ["--concurrency", "4"]


@pytest.mark.parametrize("change", [
    {"tolerations": [TOLERATION]}, {"build": {"resources": {"requests": {"cpu": "1"}}}}, {"image": {"tag": "0.2.0"}},
    {"gpus": 1}, {"sharedMemory": "2Gi"}, {"replicas": 5}, {"podLabels": {"team": "sound"}},
], ids=json.dumps)  # fmt: skip
def test_an_upgrade_that_changes_a_value_is_taken(change: dict[str, Any], tmp_path: Path) -> None:
    """A Job and a selector cannot change: what changes a Job must make another one."""
    with KubernetesApi() as api:
        for own in ({}, change):
            build = {"enabled": True, **own.get("build", {})}
            done = kubectl(api, tmp_path, "apply", given(tmp_path, {**own, "build": build}))
            assert done.returncode == 0, done.stderr


def test_the_build_job_is_the_same_until_something_of_it_changes(tmp_path: Path) -> None:
    def name(own: dict[str, Any]) -> str:
        (job,) = of_kind(given(tmp_path, {"build": {"enabled": True}, **own}), "Job")
        return str(job["metadata"]["name"])

    assert name({}) == name({"replicas": 7, "autoscaling": {"enabled": True}})
    assert name({}) != name({"tolerations": [TOLERATION]})


def test_a_build_that_the_job_cannot_do_is_refused_with_what_to_do() -> None:
    words = ("--set", "image.tag=0.1.0", "--set", "build.enabled=true")
    done = helm("template", "af3", str(CHART), "-f", str(CHART / "values-vllm.yaml"), *words)
    assert done.returncode != 0
    assert "make engines GPU=any" in done.stderr


@pytest.mark.parametrize(("base", "target"), [("cpu", "cpu"), ("trtllm", "h100")])
def test_the_build_job_finds_in_the_image_all_that_make_needs(base: str, target: str, tmp_path: Path) -> None:
    """Its script with `make --dry-run`, in a copy of what .dockerignore lets into an image: nothing is built."""
    image, work = tmp_path / "image", tmp_path / "work"
    work.mkdir()
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        for source in ROOT.glob(line[1:]) if line.startswith("!") else ():
            place = image / source.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, place)
    (container,) = pod(given(tmp_path, {"build": {"enabled": True}}, base), "engines")["spec"]["containers"]
    script, name, *words = container["args"]
    script = script.replace("/opt/audio-flamingo", str(image)).replace("/work", str(work))
    shell = [
        *container["command"],
        script,
        name,
        "--dry-run",
        *(word.replace("/work", str(work)) for word in words),
    ]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"-m build_engines --target {target}" in done.stdout
    (mount,) = (one["mountPath"] for one in container["volumeMounts"] if one["name"] == "engines")
    assert mount == "/work/engines"
    assert f"--output engines/{target}" in done.stdout


def test_every_value_is_in_the_schema():
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(yaml.safe_load((CHART / "values.yaml").read_text())) <= set(schema["properties"])
