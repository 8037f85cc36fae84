"""Examines NVIDIA's image from inside: `python3 -m perf.acceptance.image_checks --out FILE`.

Needs only the standard library. A check that fails is written into the report; only a missing one is an error.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAMS = ("make", "nvcc", "gcc", "g++", "clang++", "virtualenv", "trtllm-build", "polygraphy", "mpirun")
RECORDED = Path(__file__).resolve().parents[2] / "tests" / "contract" / "recorded_options.json"
CUDA = "from cuda.bindings import runtime as r; error, address = r.cudaMalloc(16); print(error)"
FORWARD_COMPATIBILITY = Path("/usr/local/cuda/compat")


def options_in(help_text: str) -> set[str]:
    """Find the names of the options in a --help text."""
    return {name.replace("-", "_") for name in re.findall(r"--([a-zA-Z][\w-]*)", help_text)}


def missing_options(help_text: str, recorded: dict[str, object]) -> list[str]:
    """Return the recorded options that this release does not list."""
    return sorted({name.replace("-", "_") for name in recorded} - options_in(help_text))


def output(*command: str) -> str:
    """Run a command; return what it prints, or why it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    return (done.stdout + done.stderr).strip()


def examine() -> dict[str, object]:
    recorded = json.loads(RECORDED.read_text())["trtllm-build"]["options"]
    return {
        "programs": {name: shutil.which(name) or "none" for name in PROGRAMS},
        "python": sys.version,
        "venv": output(sys.executable, "-c", "import ensurepip; print('ensurepip is there')"),
        "packages": output(sys.executable, "-m", "pip", "list", "--format=freeze").splitlines(),
        "cudaMalloc": output(sys.executable, "-c", CUDA),
        "driver": output(
            "nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"
        ),
        "forward_compatibility": FORWARD_COMPATIBILITY.is_dir(),
        "trtllm-build lacks": missing_options(output("trtllm-build", "--help"), recorded),
        "backends": output("ls", "/opt/tritonserver/backends").split(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m perf.acceptance.image_checks", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    found = examine()
    text = json.dumps(found, indent=1)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text + "\n")
    print(text)
    return 1 if found["trtllm-build lacks"] else 0


if __name__ == "__main__":
    sys.exit(main())
