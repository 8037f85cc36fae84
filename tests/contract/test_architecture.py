"""The folders are the architecture: imports point one way, no cycles, one meaning a name, files that fit a look."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("af3", "serving", "build_engines", "clients", "perf", "training", "model_repository", "deploy")
LONGEST_FILE = 300

# Who may import whom. A package or sub-package that is named here imports nothing of ours but what stands behind it.
ALLOWED = {
    "af3": ("af3",),
    # The launcher reads which voices there are, and waits for what this imports before it starts Triton.
    "af3.speech.built_voice": ("af3.speech.engines.offline_voices",),
    "clients": ("clients",),
    "serving.address": (),
    "serving.audio_usage": (),
    "serving.heartbeat": (),
    "serving.journal": (),
    "serving.steps": ("af3", "serving.steps", "serving.address", "serving.heartbeat", "serving.journal"),
    "serving.door": (
        "af3.contract",
        "af3.errors",
        "af3.inputs.base64_text",  # what a clip is kept by is the hash of the file
        "af3.inputs.ffmpeg",  # which program it is
        "af3.stop",  # the message, which the steps send each other too
        "serving.door",
        "serving.address",
        "serving.audio_usage",
        "serving.journal",
        "clients",
    ),
    "serving.machine": ("af3", "serving.machine"),
    "serving.host": ("af3", "serving", "clients"),
    "build_engines": ("af3", "build_engines", "serving.machine"),
    "model_repository": ("af3", "serving.steps", "serving.audio_usage", "serving.heartbeat"),
    "deploy": ("deploy", "serving.address"),
}
# The same thing of two places: errors, TLS and the contract of server and client; the interface of an engine, and what
# chooses one, of encoder and LLM.
SAME_NAME = {"choose", "contract", "errors", "interface", "tls"}
ADAPTER = "model"  # model_repository/<model>/1/model.py: Triton gives the name


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*.py"):
            name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """Our modules that a module imports, at its top or inside a function; not what only a type checker reads."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    for node in _run(tree):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(name, node)
            wanted = [
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names
            ]
        else:
            continue
        yield from (module for module in wanted if module in MODULES and module != name)


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _run(node)


def _absolute(name: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    base = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def test_no_imports_go_in_a_circle():
    try:
        TopologicalSorter({name: set(imports(name)) for name in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def _inside(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places)


@pytest.mark.parametrize("place", ALLOWED)
def test_imports_point_one_way(place):
    importers = [name for name in MODULES if _inside(name, (place,))]
    assert importers
    wrong = [
        f"{name} imports {module}"
        for name in importers
        for module in imports(name)
        if not _inside(module, ALLOWED[place])
    ]
    assert not wrong


def test_a_module_is_found_by_its_name():
    places = defaultdict(list)
    for name, path in MODULES.items():
        if not path.stem.startswith("__") and path.stem not in SAME_NAME | {ADAPTER}:
            places[path.stem].append(name)
    assert {stem: names for stem, names in places.items() if len(names) > 1} == {}


def test_a_file_fits_a_look_or_says_why_not():
    tests = (REPOSITORY / "tests").rglob("*.py")
    page = (path for path in (REPOSITORY / "web" / "src").rglob("*") if path.suffix in (".ts", ".css"))
    long = [
        f"{path.relative_to(REPOSITORY)}: {lines} lines"
        for path in (*MODULES.values(), *tests, *page)
        if (lines := len((text := path.read_text(encoding="utf-8")).splitlines())) > LONGEST_FILE
        and "long because" not in " ".join(text[:600].lower().split())
    ]
    assert not long


def test_an_adapter_of_triton_is_thin():
    for path in (REPOSITORY / "model_repository").rglob("model.py"):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        assert len(lines) <= 60, f"{path.relative_to(REPOSITORY)}: {len(lines)} lines"


def test_no_two_test_files_have_one_name():
    """pytest imports them by their names alone."""
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
