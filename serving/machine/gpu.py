"""The GPU of this machine and the NVIDIA libraries beside it: python -m serving.machine.gpu prints them as JSON."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

from pydantic import BaseModel

from af3.manifest import GpuIdentity, ManifestError

QUERY = "name,compute_cap,driver_version,memory.total"
# Builds engines and serves them. One of the last that compile engines: Triton 2.62, TensorRT-LLM 1.0.0,
# TensorRT 10.11, CUDA 12.9.
IMAGE = "nvcr.io/nvidia/tritonserver:25.10-trtllm-python-py3"
# Set by the image we build; the pinned image itself does not say which one it is.
IMAGE_VARIABLE = "AF3_IMAGE"
MIB = 1 << 20
# The folders beside the engines that the configs name, whichever target it is.
LINK = "gpu"
VLLM_LINK = "vllm"


class FoundGpu(BaseModel):
    """`identity` is what engines are tied to, `memory_bytes` all that the GPU has."""

    identity: GpuIdentity
    memory_bytes: int


def find() -> FoundGpu:
    """The first GPU. Raises ManifestError when there is no NVIDIA driver or no GPU."""
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise ManifestError(
            "there is no nvidia-smi here, so no NVIDIA driver; `make doctor` says what is missing"
        ) from None
    except subprocess.CalledProcessError as error:
        reason = (error.stdout or error.stderr).strip()
        raise ManifestError(f"nvidia-smi failed: {reason}; `make doctor` says what is missing") from None
    name, compute_capability, driver, memory_mib = _first_gpu(answer)
    identity = GpuIdentity(
        name=name,
        compute_capability=compute_capability,
        driver=driver,
        tensorrt=_version("tensorrt"),
        tensorrt_llm=_version("tensorrt_llm"),
        image=os.environ.get(IMAGE_VARIABLE, "unknown"),
    )
    return FoundGpu(identity=identity, memory_bytes=memory_mib * MIB)


def _first_gpu(answer: str) -> tuple[str, str, str, int]:
    """Name, compute capability, driver and MiB of memory of the first GPU that nvidia-smi lists."""
    lines = answer.strip().splitlines()
    words = [word.strip() for word in lines[0].split(",")] if lines else []
    # Without a GPU it says "No devices were found", and ends with code 0.
    if len(words) != len(QUERY.split(",")):
        raise ManifestError(
            f"nvidia-smi lists no GPU, it says: {(lines or ['nothing'])[0][:80]}; `make doctor` says what is missing"
        )
    *names, memory_mib = words
    if not memory_mib.isdigit():
        raise ManifestError(
            f"nvidia-smi does not say how much memory {names[0]} has, but {memory_mib!r}; a GPU that shares the memory"
            " of its host, or an instance of MIG, cannot be planned for"
        )
    name, compute_capability, driver = names
    return name, compute_capability, driver, int(memory_mib)


def link_engines(engines: Path, name: str = LINK) -> None:
    """Make `engines/<name>` point at `engines/<target>`; nothing is written when it does already.

    Raises ManifestError where it may not be written (engines are mounted read-only into containers).
    """
    link = engines.parent / name
    if link.is_symlink() and link.readlink() == Path(engines.name):
        return
    draft = link.with_name(f".{name}")
    try:
        draft.unlink(missing_ok=True)
        draft.symlink_to(engines.name)
        draft.replace(link)
    except OSError as error:
        raise ManifestError(
            f"{link} must point at {engines.name} and may not be changed here ({error.strerror}); run "
            f"`ln -sfn {engines.name} engines/{name}` where the engines lie"
        ) from error


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def main() -> int:
    try:
        print(find().model_dump_json())
    except ManifestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
