"""make doctor: what this machine has of what the server needs, and how to get what is missing.

Checks for a CPU first (they hold for everyone), then what a GPU adds. Exits with 1 when a check for the
asked target fails.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from af3.manifest import Manifest, ManifestError
from serving.machine import container, doctor_vllm, gpu, install
from serving.machine.finding import GB, Finding
from serving.machine.known_gpus import GPUS

PORTS = {"HTTP": 8000, "gRPC": 8001, "metrics": 8002}
PYTHON_VERSIONS = ((3, 10), (3, 12))
# CUDA 12.9 and what it runs on; a data-centre GPU with an older driver may still work (forward
# compatibility).
DRIVER = (575, 57)
GPU_DISK_GB = 90  # image 30, checkpoint 17, parts and engines 39
CPU_DISK_GB = 4  # virtual environment and the small checkpoint; the full-size one in int4 takes 30
GPU_MEMORY_GB = 48  # of the host: the split LLM passes through it
CPU_MEMORY_GB = 4

MARKS = {"ok": "ok     ", "warning": "warning", "missing": "MISSING"}


def check_python() -> Finding:
    oldest, newest = PYTHON_VERSIONS
    version = platform.python_version()
    if oldest <= sys.version_info[:2] <= newest:
        return Finding("Python", "ok", version)
    return Finding("Python", "missing", version, "install Python 3.10, 3.11 or 3.12, then `make setup`")


def check_server() -> Finding:
    if install.CONTAINER_SERVER.is_file():
        return Finding("tritonserver", "ok", str(install.CONTAINER_SERVER))
    if install.SERVER.is_file():
        return Finding("tritonserver", "ok", f"{install.TRITON_VERSION} from its wheel")
    return Finding("tritonserver", "missing", "neither a container nor the wheel", "run `make setup`")


def check_memory(needed_gb: int) -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = f"{total / GB:.0f} GB"
    if total >= needed_gb * GB:
        return Finding("memory", "ok", found)
    return Finding(
        "memory", "warning", found, f"{needed_gb} GB are wanted; building may be killed by the system"
    )


def check_disk(folder: Path, needed_gb: int) -> Finding:
    free = shutil.disk_usage(folder).free
    found = f"{free / GB:.0f} GB free in {folder}"
    if free >= needed_gb * GB:
        return Finding("disk", "ok", found)
    remedy = f"{needed_gb} GB are needed; make room, or put the clone and HF_HOME on another disk"
    return Finding("disk", "missing", found, remedy)


def check_ports() -> Iterator[Finding]:
    for name, port in PORTS.items():
        with socket.socket() as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                opened.bind(("127.0.0.1", port))
            except OSError:
                remedy = f"stop what listens there, or choose another: `make serve {name.upper()}_PORT=…`"
                yield Finding(f"port {port}", "warning", f"taken ({name})", remedy)
            else:
                yield Finding(f"port {port}", "ok", f"free ({name})")


def check_engines(target: str, folder: Path | None = None) -> Finding:
    """`folder`: of the engines, engines/TARGET when None."""
    try:
        manifest = Manifest.read(folder or Path("engines") / target)
    except ManifestError as error:
        found = str(error).partition(";")[0]
        return Finding("engines", "warning", found, f"run `make engines GPU={target}`")
    precision = manifest.precision
    return Finding(
        "engines", "ok", f"{manifest.checkpoint.name}: encoder {precision.audio_encoder}, LLM {precision.llm}"
    )


def check_gpu(target: str) -> Iterator[Finding]:
    try:
        found = gpu.find()
    except ManifestError as error:
        remedy = "install driver 575 or newer (https://www.nvidia.com/drivers); in a container: --gpus all"
        yield Finding("GPU", "missing", str(error).partition(";")[0], remedy)
        return
    identity = found.identity
    described = (
        f"{identity.name}, compute capability {identity.compute_capability}, {found.memory_bytes / GB:.0f} GB"
    )
    known = GPUS.get(target)
    if known is None or known.is_one(identity.name):
        yield Finding("GPU", "ok", described)
    else:
        yield Finding("GPU", "missing", described, f"it is no {known.name_part}; give GPU= what you have")
    driver = tuple(int(part) for part in identity.driver.split(".")[:2])
    if driver >= DRIVER:
        yield Finding("driver", "ok", identity.driver)
    else:
        remedy = f"the image was made for {DRIVER[0]}.{DRIVER[1]} or newer; update the driver"
        yield Finding("driver", "warning", identity.driver, remedy)


def check_container() -> Iterator[Finding]:
    if shutil.which("trtllm-build"):
        identity = _versions()
        yield Finding("container", "ok", f"inside it: {identity}")
        return
    if shutil.which("docker") is None:
        yield Finding("Docker", "missing", "not installed", "https://docs.docker.com/engine/install/")
        return
    engine = _first_line(["docker", "version", "--format", "{{.Server.Version}}"])
    if engine is None:
        yield Finding(
            "Docker", "missing", "its engine does not answer", "start it: `sudo systemctl start docker`"
        )
        return
    yield Finding("Docker", "ok", engine)
    runtimes = _first_line(["docker", "info", "--format", "{{json .Runtimes}}"]) or ""
    if "nvidia" in runtimes or shutil.which("nvidia-ctk"):
        yield Finding("NVIDIA Container Toolkit", "ok", "installed")
    else:
        yield Finding(
            "NVIDIA Container Toolkit",
            "missing",
            "Docker knows no runtime nvidia",
            "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html",
        )
    if _first_line(["docker", "image", "inspect", "--format", "{{.Id}}", gpu.IMAGE]) is None:
        yield Finding("image", "warning", "not downloaded yet", f"`docker pull {gpu.IMAGE}` (about 30 GB)")
    else:
        yield Finding("image", "ok", gpu.IMAGE)


def check_server_image(target: str) -> Finding:
    name = container.image_of(target)
    if _first_line(["docker", "image", "inspect", "--format", "{{.Id}}", name]) is None:
        return Finding("server image", "missing", f"{name} is not built", f"`make docker GPU={target}`")
    return Finding("server image", "ok", name)


def missing_to_build(target: str, disk_gb: int = GPU_DISK_GB) -> list[Finding]:
    """List what this machine lacks for `make engines GPU=TARGET`, in the order of installation."""
    found = [*check_gpu(target), *check_container(), check_disk(Path.cwd(), disk_gb)]
    return [finding for finding in found if finding.state == "missing"]


def missing_to_serve(target: str, engines: Path) -> list[Finding]:
    """List what this machine lacks for `make serve GPU=TARGET`, in the order of installation.

    engines: their folder, engines/TARGET.
    """
    found = [*check_gpu(target), *check_container()]
    if not any(finding.what == "Docker" and finding.state == "missing" for finding in found):
        found.append(check_server_image(target))
    missing = [finding for finding in found if finding.state == "missing"]
    built = check_engines(target, engines)
    return missing if built.state == "ok" else [*missing, replace(built, state="missing")]


def findings(target: str) -> list[Finding]:
    """All checks for a target, in the order in which one would set a machine up."""
    if target in ("any", "rtx"):
        return _findings_vllm(target)
    on_gpu = target != "cpu"
    checks: list[Callable[[], Finding | Iterator[Finding]]] = [
        check_python,
        lambda: check_memory(GPU_MEMORY_GB if on_gpu else CPU_MEMORY_GB),
        lambda: check_disk(Path.cwd(), GPU_DISK_GB if on_gpu else CPU_DISK_GB),
    ]
    if on_gpu:
        checks += [lambda: check_gpu(target), check_container]
    else:
        checks.append(check_server)
    checks += [check_ports, lambda: check_engines(target)]
    return _run(checks)


def _findings_vllm(target: str) -> list[Finding]:
    """No container: the wheel of tritonserver, vLLM, and ONNX Runtime or TensorRT for RTX."""
    return _run(
        [
            check_python,
            lambda: check_memory(GPU_MEMORY_GB),
            lambda: check_disk(Path.cwd(), doctor_vllm.DISK_GB),
            lambda: doctor_vllm.check_gpu(target),
            check_server,
            lambda: doctor_vllm.check_environments(target),
            check_ports,
            lambda: check_engines(target),
        ]
    )


def _run(checks: Sequence[Callable[[], Finding | Iterator[Finding]]]) -> list[Finding]:
    found: list[Finding] = []
    for check in checks:
        result = check()
        found += [result] if isinstance(result, Finding) else list(result)
    return found


def report(found: Sequence[Finding]) -> str:
    """A line a finding, with its remedy below it."""
    lines = []
    for finding in found:
        lines.append(f"{MARKS[finding.state]}  {finding.what}: {finding.found}")
        if finding.state != "ok":
            lines.append(f"{'':9}→ {finding.remedy}")
    return "\n".join(lines)


def _versions() -> str:
    try:
        identity = gpu.find().identity
    except ManifestError:
        return "without a GPU"
    return f"TensorRT {identity.tensorrt}, TensorRT-LLM {identity.tensorrt_llm}"


def _first_line(command: Sequence[str]) -> str | None:
    """The output of a command; None if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--target", default="cpu", help=f"cpu, any, rtx, {', '.join(GPUS)} (default: %(default)s)"
    )
    found = findings(parser.parse_args().target)
    print(report(found))
    return 1 if any(finding.state == "missing" for finding in found) else 0


if __name__ == "__main__":
    sys.exit(main())
