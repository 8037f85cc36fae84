"""The GPUs that have a target, and which one is in this machine: python -m serving.machine.known_gpus (GPU=auto).

Run by make before anything is installed: the standard library alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass

QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader")


@dataclass(frozen=True)
class KnownGpu:
    """`name_part`: what its product name contains, as whole words; `compute_capability` (major, minor)."""

    name_part: str
    compute_capability: tuple[int, int]

    def is_one(self, name: str) -> bool:
        """True if nvidia-smi's product name is this GPU's: an L40S is not an L4, a GH200 not an H200."""
        return re.search(rf"\b{re.escape(self.name_part)}\b", name, re.IGNORECASE) is not None


GPUS = {
    "h100": KnownGpu("H100", (9, 0)),
    "h200": KnownGpu("H200", (9, 0)),
    "a100": KnownGpu("A100", (8, 0)),
    "l40s": KnownGpu("L40S", (8, 9)),
    "l4": KnownGpu("L4", (8, 9)),
    "a10g": KnownGpu("A10G", (8, 6)),
    "rtx4090": KnownGpu("RTX 4090", (8, 9)),
}


def runs_tensorrt_rtx(compute_capability: tuple[int, int]) -> bool:
    """True if TensorRT for RTX supports this GPU: Turing, Ampere, Ada and Blackwell's RTX cards, but not Hopper."""
    return compute_capability == (7, 5) or compute_capability[0] in (8, 12)


def target_of(name: str) -> str | None:
    """The target of a product name, None when there is none."""
    return next((target for target, known in GPUS.items() if known.is_one(name)), None)


def main() -> int:
    """Print the target of the first GPU, and on standard error why."""
    try:
        answer = subprocess.run(QUERY, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        print("GPU=auto: nvidia-smi finds no GPU here, so GPU=cpu", file=sys.stderr)
        print("cpu")
        return 0
    name = answer.splitlines()[0].partition(",")[0].strip()
    target = target_of(name)
    if target is None:
        known = ", ".join(GPUS)
        print(
            f"GPU=auto: no target is for the {name} alone; there are {known}, and for other GPUs rtx and any"
            " (docs/gpu.md)",
            file=sys.stderr,
        )
        return 1
    print(f"GPU=auto: {name}, so GPU={target}", file=sys.stderr)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
