"""Finds the files of this repository that decide what a module does: its own and all that it imports."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# These run stages and word errors; no result depends on them.
NEUTRAL = frozenset({"build_engines/stage.py", "build_engines/code_graph.py", "af3/errors.py"})


def code_hashes(modules: Iterable[ModuleType]) -> dict[str, str]:
    """Map the files of the modules, and of all they import inside the repository, to hashes of their code.

    Comments and docstrings do not count: changing one is no reason to rebuild gigabytes. Imports inside functions
    count; imports for type checkers do not.
    """
    pending = [Path(str(module.__file__)).resolve() for module in modules]
    found: dict[str, str] = {}
    while pending:
        path = pending.pop()
        name = path.relative_to(REPOSITORY).as_posix() if path.is_relative_to(REPOSITORY) else path.name
        if name in found or name in NEUTRAL:
            continue
        found[name], imported = _read(path, path.stat().st_mtime_ns)
        pending += imported
    return dict(sorted(found.items()))


@cache
def _read(path: Path, changed_ns: int) -> tuple[str, tuple[Path, ...]]:
    """Hash a file's code and list the files of this repository that it imports; cached until the file changes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: list[str] = []
    for node in _imports(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    digest = hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest()
    return digest, tuple(dict.fromkeys(file for name in names for file in _files(name)))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return tree


def _imports(tree: ast.AST) -> Iterable[ast.Import | ast.ImportFrom]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            yield from _imports(node)


def _files(module: str) -> Iterable[Path]:
    """The file of a module of this repository, and the `__init__.py` of each package around it."""
    words = module.split(".")
    for count in range(1, len(words) + 1):
        place = REPOSITORY.joinpath(*words[:count])
        yield from (file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file())
