"""What pip installs into the GPU image, and what it must leave alone: python3 image_packages.py FOLDER.

Reads `pip list --format=freeze` on standard input and FOLDER/pyproject.toml; writes
FOLDER/wanted.txt (requirements) and FOLDER/held.txt (constraints). NVIDIA's stack keeps its versions: engines
run only with the libraries that built them. The rest of the image may move, or nothing could be installed.
Runs in the image before anything of ours is there: the standard library alone.
"""

import re
import sys
from pathlib import Path

HELD = (
    "torch", "tensorrt", "tensorrt-llm", "transformers", "tokenizers", "numpy", "nvidia-modelopt", "cuda-python",
    "cuda-bindings", "mpi4py", "polygraphy", "safetensors",
)  # fmt: skip
# Its metadata asks for a grpcio older than the image's, which its code runs with. Installed without its
# dependencies; what it imports besides grpcio, protobuf and numpy is wanted by name.
ALONE = "tritonclient"
ALONE_IMPORTS = ("grpcio", "protobuf", "python-rapidjson")


def canonical(name: str) -> str:
    """A package's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    return canonical(re.split(r"[\s\[<>=!~;@]", requirement.strip(), maxsplit=1)[0])


def wanted(project: dict) -> list[str]:
    """Requirements of the server and of its clients (the health check is one), without ALONE."""
    listed = [*project["dependencies"], *project["optional-dependencies"]["server"]]
    return [requirement for requirement in listed if name_of(requirement) != ALONE] + list(ALONE_IMPORTS)


def held(installed: list[str]) -> list[str]:
    """The lines of `pip list --format=freeze` that name NVIDIA's stack."""
    return [line for line in installed if name_of(line) in HELD]


def main() -> None:
    import tomllib  # the image has Python 3.12; tests of the functions above run on 3.10 too

    folder = Path(sys.argv[1])
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    (folder / "wanted.txt").write_text("\n".join(wanted(project)) + "\n")
    (folder / "held.txt").write_text("\n".join(held(sys.stdin.read().splitlines())) + "\n")


if __name__ == "__main__":
    main()
