"""The chart, given by the real kubectl to a stand-in for an API server: taken, unchanged, upgraded, refused.

`GOLDEN=write python -m pytest tests/cluster/test_apply.py` writes tests/cluster/golden/ anew.
"""

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.cluster.test_chart import CASES, KINDS_OF_OTHERS, VALUES, rendered

pytest.importorskip("kubernetes_validate", reason="`make test-cluster` installs it")
from tests.support.crd_schemas import schemas_in
from tests.support.custom_schemas import SPECS, Invalid, check
from tests.support.kubernetes_api import KubernetesApi

GOLDEN = Path(__file__).parent / "golden"
STATEFUL = ("PersistentVolumeClaim", "Service", "Deployment")


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with KubernetesApi() as running:
        yield running


def kubectl(api: KubernetesApi, folder: Path, verb: str, documents: Any) -> subprocess.CompletedProcess[str]:
    program = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
    if program is None:
        pytest.skip("kubectl is not installed; `make test-cluster` installs it")
    file = folder / "objects.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    words = [program, verb, "--server-side", "--kubeconfig", str(api.kubeconfig(folder)), "-f", str(file)]
    home = {"HOME": str(folder), "PATH": os.environ["PATH"], "KUBECTL_EXTERNAL_DIFF": "diff -u -N"}
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=home)


@pytest.mark.parametrize(("values", "name"), CASES)
def test_kubectl_applies_every_object_and_then_sees_no_difference(values, name, api, tmp_path):
    documents = rendered(values, name)
    done = kubectl(api, tmp_path, "apply", documents)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("serverside-applied") == len(documents) == len(api.objects)
    again = kubectl(api, tmp_path, "diff", documents)
    assert (again.returncode, again.stdout) == (0, ""), again.stderr + again.stdout


@pytest.mark.parametrize("before", VALUES)
@pytest.mark.parametrize("after", VALUES)
def test_an_upgrade_between_values_files_recreates_nothing_that_has_state(before, after, api, tmp_path):
    assert kubectl(api, tmp_path, "apply", rendered(before, "all")).returncode == 0
    old = copy.deepcopy(api.objects)
    done = kubectl(api, tmp_path, "apply", rendered(after, "all"))
    assert done.returncode == 0, done.stderr
    kept = [key for key in old if key[0] in STATEFUL]
    assert {key[0] for key in kept} == set(STATEFUL)
    for key in kept:
        assert api.objects[key]["metadata"]["uid"] == old[key]["metadata"]["uid"]
        assert api.objects[key]["spec"].get("selector") == old[key]["spec"].get("selector")


@pytest.mark.parametrize(("before", "after"), [("cpu", "trtllm"), ("trtllm", "vllm")])
def test_what_an_upgrade_changes_is_as_recorded(before, after, api, tmp_path):
    assert kubectl(api, tmp_path, "apply", rendered(before, "plain")).returncode == 0
    done = kubectl(api, tmp_path, "diff", rendered(after, "plain"))
    assert done.returncode == 1, done.stderr
    changed = "\n".join(
        line
        for line in done.stdout.splitlines()
        if line[:1] in "+-" and line[:3] not in ("+++", "---") and "resourceVersion" not in line
    )
    golden = GOLDEN / f"{before}-to-{after}.diff"
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(changed + "\n")
    assert changed + "\n" == golden.read_text()


def test_a_changed_selector_is_refused(api, tmp_path):
    documents = list(copy.deepcopy(rendered("cpu", "plain")))
    assert kubectl(api, tmp_path, "apply", documents).returncode == 0
    (server,) = (one for one in documents if one["kind"] == "Deployment" and one["metadata"]["name"] == "af3")
    server["spec"]["selector"]["matchLabels"]["new"] = "label"
    done = kubectl(api, tmp_path, "apply", [server])
    assert done.returncode != 0
    assert "spec.selector: field is immutable" in done.stderr


def of_kind(kind: str) -> dict[str, Any]:
    name = {
        "InferencePool": "inference-pool",
        "ServingRuntime": "kserve",
        "HTTPRoute": "outside",
        "GRPCRoute": "outside",
    }.get(kind, "all")
    return copy.deepcopy(next(one for one in rendered("trtllm", name) if one["kind"] == kind))


SCALE_DOWN = ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior", "scaleDown")
WRONG = {
    "ScaledObject": ((*SCALE_DOWN, "policies", 0), "kind"),
    "InferencePool": (("spec", "endpointPickerRef"), "failuremode"),
    "PodMonitor": (("spec", "podMetricsEndpoints", 0), "Interval"),
    "ServingRuntime": (("spec", "containers", 0), "command_line"),
    "HTTPRoute": (("spec", "rules", 0), "timeout"),
    "GRPCRoute": (("spec", "parentRefs", 0), "gateway"),
    "Deployment": (("spec", "template", "spec"), "terminationGrace"),
    "Service": (("spec",), "selectors"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_misspelt_field_is_refused(kind, api, tmp_path):
    document = of_kind(kind)
    check(document)
    path, name = WRONG[kind]
    place: Any = document
    for part in path:
        place = place[part]
    place[name] = "x"
    done = kubectl(api, tmp_path, "apply", [document])
    assert done.returncode != 0
    assert name in done.stderr


@pytest.mark.parametrize("kind", [kind for _, kind in SPECS])
def test_every_kind_of_another_project_is_rendered_and_needs_its_fields(kind):
    document = of_kind(kind)
    check(document)
    for name in document["spec"]:
        if name in SPECS[document["apiVersion"], kind]["required"]:
            rest = {field: value for field, value in document["spec"].items() if field != name}
            with pytest.raises(Invalid, match=name):
                check({**document, "spec": rest})


@pytest.mark.parametrize("kind", sorted(KINDS_OF_OTHERS))
def test_an_object_of_another_project_is_valid_by_that_projects_own_schema(kind):
    """`make test-cluster CRDS=folder`: of `kubectl get crd -o yaml`, or of their sources."""
    folder = os.environ.get("CRDS", "")
    if not folder:
        pytest.skip("CRDS names no folder of CustomResourceDefinitions")
    schemas = schemas_in(Path(folder))
    found = [one for values, name in CASES for one in rendered(values, name) if one["kind"] == kind]
    assert found
    for document in found:
        jsonschema.validate(document, schemas[document["apiVersion"], kind])
        with pytest.raises(jsonschema.ValidationError):
            misspelt = {**document, "spec": {**document["spec"], "misspelt": 1}}
            jsonschema.validate(misspelt, schemas[document["apiVersion"], kind])
