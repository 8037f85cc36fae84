"""The page that the server shows is what web/ builds, and small."""

import gzip
import hashlib
import json
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
WEB = REPOSITORY / "web"
PAGE = REPOSITORY / "serving" / "door" / "page"
NOT_BUILT = ("node_modules", "tests", ".gitignore")
LARGEST, LARGEST_SENT = 40_000, 18_000  # bytes of all files, and compressed as browsers ask for them


def digest(root: Path, paths: list[Path]) -> str:
    """As web/vite.config.ts writes it down."""
    found = hashlib.sha256()
    for path in sorted(paths, key=lambda one: one.relative_to(root).as_posix()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        found.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return found.hexdigest()


def files(folder: Path, *without: str) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in without
    ]


def test_the_built_page_is_of_these_sources():
    told = json.loads((PAGE / "built_from.json").read_text())
    assert told["sources"] == digest(WEB, files(WEB, *NOT_BUILT)), "web/ has changed: run `make page`"


def test_nobody_has_changed_the_built_page():
    told = json.loads((PAGE / "built_from.json").read_text())
    assert told["built"] == digest(PAGE / "static", files(PAGE / "static")), "run `make page`"


def test_the_page_is_small():
    contents = [path.read_bytes() for path in files(PAGE / "static")]
    assert sum(map(len, contents)) < LARGEST
    assert sum(len(gzip.compress(content)) for content in contents) < LARGEST_SENT


def test_every_package_of_the_build_has_a_hash_and_none_is_in_the_page():
    lock = json.loads((WEB / "package-lock.json").read_text())["packages"]
    packages = {name: entry for name, entry in lock.items() if name}
    assert len(packages) > 20
    assert [name for name, entry in packages.items() if not entry.get("integrity")] == []
    assert [name for name, entry in packages.items() if not entry.get("dev")] == []
    assert "dependencies" not in json.loads((WEB / "package.json").read_text())
