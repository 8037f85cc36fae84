"""Checks what `make engines GPU=any && make serve GPU=any` needs: a driver, Python, and two environments.

GPU=rtx needs the same, with TensorRT for RTX in the place of ONNX Runtime's CUDA.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from af3.manifest import ManifestError
from serving.machine import gpu
from serving.machine.finding import GB, Finding
from serving.machine.known_gpus import runs_tensorrt_rtx

DRIVER = (580, 65)  # CUDA 13, for which the wheels of vLLM and onnxruntime-gpu are built
CAPABILITY = (8, 0)  # Ampere: vLLM serves in BF16 and refuses it on older GPUs
BF16_GB, FP8_GB = 22, 14  # of one GPU: weights of AF3, its encoder, and a KV cache for a few long clips
DISK_GB = 60  # checkpoint 17, engines 19, two environments 20
VLLM_PYTHON = Path(".venv-vllm") / "bin" / "python"
PROVIDER = "CUDAExecutionProvider"
RTX_CODE = "import tensorrt_rtx_bindings as t; from cuda.bindings import runtime; print(t.__version__)"


def check_gpu(target: str) -> Iterator[Finding]:
    """The GPU, its driver and its memory."""
    try:
        found = gpu.find()
    except ManifestError as error:
        remedy = (
            f"install driver {DRIVER[0]} or newer (https://www.nvidia.com/drivers), or serve with GPU=cpu"
        )
        yield Finding("GPU", "missing", str(error).partition(";")[0], remedy)
        return
    identity = found.identity
    described = f"{identity.name}, compute capability {identity.compute_capability}"
    capability = tuple(map(int, identity.compute_capability.split(".")))
    if capability < CAPABILITY:
        yield Finding("GPU", "missing", described, "vLLM in BF16 needs 8.0 or newer; serve with GPU=cpu")
    elif target == "rtx" and not runs_tensorrt_rtx((capability[0], capability[1])):
        yield Finding(
            "GPU", "missing", described, "TensorRT for RTX with BF16 runs on 8.x and 12.x; use GPU=any"
        )
    else:
        yield Finding("GPU", "ok", described)
    driver = tuple(int(part) for part in identity.driver.split(".")[:2])
    if driver >= DRIVER:
        yield Finding("driver", "ok", identity.driver)
    else:
        yield Finding(
            "driver", "missing", identity.driver, f"CUDA 13 needs {DRIVER[0]}.{DRIVER[1]} or newer; update it"
        )
    yield _check_memory(found.memory_bytes / GB, capability >= (8, 9))


def _check_memory(memory_gb: float, has_fp8: bool) -> Finding:
    found = f"{memory_gb:.0f} GB"
    if memory_gb >= BF16_GB:
        return Finding("GPU memory", "ok", found)
    if has_fp8 and memory_gb >= FP8_GB:
        return Finding("GPU memory", "warning", found, f"BF16 needs {BF16_GB} GB; use PRECISION=fp8")
    needed = f"{BF16_GB} GB for BF16" + (f", {FP8_GB} for FP8" if has_fp8 else "")
    return Finding("GPU memory", "missing", found, f"{needed}; use another GPU, or GPU=cpu PRECISION=int4")


def check_environments(target: str) -> Iterator[Finding]:
    """vLLM's Python, and in ours what the encoder runs on."""
    remedy = f"run `make setup-vllm GPU={target}`"
    version = "import importlib.metadata as m; print(m.version('vllm'))"
    yield _imported("vLLM", str(VLLM_PYTHON), version, remedy)
    if target == "rtx":
        yield _imported("TensorRT for RTX", sys.executable, RTX_CODE, remedy)
        return
    provider = (
        f"import onnxruntime as o; assert '{PROVIDER}' in o.get_available_providers(); print(o.__version__)"
    )
    yield _imported("ONNX Runtime on CUDA", sys.executable, provider, remedy)


def missing(target: str) -> list[Finding]:
    """List what this machine lacks for serving the target, in the order of installation."""
    found = [*check_gpu(target), *check_environments(target)]
    return [finding for finding in found if finding.state == "missing"]


def _imported(what: str, python: str, code: str, remedy: str) -> Finding:
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return Finding(what, "missing", f"no {python}", remedy)
    if done.returncode:
        return Finding(what, "missing", "not installed", remedy)
    return Finding(what, "ok", done.stdout.strip())
