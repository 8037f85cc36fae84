"""Images, compose file and dashboard: linted, and agreeing with the code they start and watch."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from serving.machine.doctor import PORTS
from serving.machine.gpu import IMAGE, IMAGE_VARIABLE

REPOSITORY = Path(__file__).parents[2]
DOCKER = REPOSITORY / "docker"
DOCKERFILES = (DOCKER / "Dockerfile", DOCKER / "Dockerfile.cpu", DOCKER / "Dockerfile.vllm")
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVERS = ("server", "server-cpu", "server-any")
# What Triton 2.62 and the TensorRT-LLM backend export beside our own (their documentation, not seen running).
KNOWN_METRICS = re.compile(r"nv_(inference|gpu|trt_llm)_\w+")


def installed(program: str) -> str:
    """The program beside this Python, or a skip."""
    path = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    return path or pytest.skip(f"{program} is not installed")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(dockerfile):
    done = subprocess.run(
        [installed("hadolint"), str(dockerfile)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_compose_file_is_one_by_its_schema():
    words = [
        installed("check-jsonschema"),
        "--builtin-schema",
        "vendor.compose-spec",
        str(DOCKER / "compose.yaml"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_the_image_ends_as_an_ordinary_user_with_a_health_check(dockerfile):
    text = dockerfile.read_text()
    users = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
    assert users == ["10001:10001"]
    assert text.index("USER ") < text.index("ENTRYPOINT ")
    assert '"serving.host.probe"' in text
    assert set(re.search(r"^EXPOSE (.*)$", text, re.MULTILINE)[1].split()) == {
        str(port) for port in PORTS.values()
    }


def test_the_gpu_image_is_the_one_that_builds_the_engines():
    text = (DOCKER / "Dockerfile").read_text()
    assert f"ARG BASE={IMAGE}\n" in text
    assert f"{IMAGE_VARIABLE}={IMAGE}\n" in text


def test_nvidias_own_entrypoint_starts_the_gpu_image():
    """It switches CUDA's forward compatibility on where the driver is older than the image."""
    [entrypoint] = re.findall(r"^ENTRYPOINT (.*)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    first, *command = json.loads(entrypoint)
    assert first == COMPOSE["services"]["engines"]["entrypoint"][0] == "/opt/nvidia/nvidia_entrypoint.sh"
    assert command[:3] == ["python3", "-m", "serving.host.launch"]


def test_compose_builds_engines_with_make_in_an_environment_outside_the_repository():
    """The one in the repository is the host's; NVIDIA's image has no make, and whoever builds may not write to /."""
    engines, text = COMPOSE["services"]["engines"], (DOCKER / "Dockerfile").read_text()
    _, make, *goals = engines["entrypoint"]
    assert [make, *goals[:2]] == ["make", "setup", "engines"]
    assert re.search(r"apt-get install .*\bmake\b", text)
    [venv] = [Path(word.removeprefix("VENV=")) for word in goals if word.startswith("VENV=")]
    mounted = {
        inside: outside for outside, inside in (volume.split(":")[:2] for volume in engines["volumes"])
    }
    assert mounted[engines["working_dir"]] == ".."
    assert not venv.is_relative_to(engines["working_dir"])
    assert mounted[str(venv.parent)] in COMPOSE["volumes"]
    assert f"--mode 1777 {venv.parent} " in text


@pytest.mark.parametrize("name", ["server", "server-any"])
def test_the_compose_file_gives_the_gpu_the_memory_and_the_time_it_needs(name):
    server = COMPOSE["services"][name]
    [device] = server["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert server["shm_size"] == "8gb"
    assert set(server["ulimits"]) == {"memlock", "stack"}
    assert server["healthcheck"]["start_period"] == "15m"


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_is_asked_a_real_question_and_may_do_nothing_else(name):
    server = COMPOSE["services"][name]
    assert server["healthcheck"]["test"][:4] == ["CMD", "python3", "-m", "serving.host.probe"]
    assert server["cap_drop"] == ["ALL"]
    assert server["volumes"] == ["../engines:/opt/audio-flamingo/engines:ro"]
    assert {int(port.split(":")[-1]) for port in server["ports"]} == set(PORTS.values())


def test_every_file_that_compose_mounts_is_there():
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DOCKER / source).exists(), source


def test_every_image_of_others_is_pinned():
    for service in COMPOSE["services"].values():
        if "build" not in service:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])


def test_prometheus_scrapes_the_servers_of_the_compose_file():
    config = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    targets = [target for group in job["static_configs"] for target in group["targets"]]
    assert targets == [f"{name}:{PORTS['metrics']}" for name in SERVERS]


def test_grafana_finds_its_source_and_its_dashboard():
    [source] = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    dashboard = json.loads((DOCKER / "grafana/dashboards/audio-flamingo.json").read_text())
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    [provider] = yaml.safe_load((DOCKER / "grafana/provisioning/dashboards/audio-flamingo.yaml").read_text())[
        "providers"
    ]
    mounted = [volume.split(":")[1] for volume in COMPOSE["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted


def test_every_metric_of_triton_on_the_dashboard_is_known():
    """Our own are checked against a live server in tests/e2e/test_dashboard.py."""
    dashboard = json.loads((DOCKER / "grafana/dashboards/audio-flamingo.json").read_text())
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    assert all(KNOWN_METRICS.fullmatch(name) for name in re.findall(r"\bnv_\w+", asked))


def test_nothing_heavy_or_secret_goes_into_an_image():
    allowed = [
        line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    assert (REPOSITORY / ".dockerignore").read_text().splitlines()[1] == "*"
    assert not {"!engines", "!.venv", "!.git", "!.cache", "!tests"} & set(allowed)


def test_the_polygraphy_that_checks_here_is_the_one_of_the_container():
    assert importlib.metadata.version("polygraphy") == "0.49.9"


def test_compose_publishes_on_loopback_alone():
    """Docker's published ports pass by the host's firewall."""
    for name, service in COMPOSE["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


def test_grafana_has_no_account_with_a_password_that_everybody_knows():
    environment = COMPOSE["services"]["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
