"""Record the known vulnerabilities of what the locks hold, from a clone of PyPA's advisory database.

git clone https://github.com/pypa/advisory-database CLONE
python -m tests.record_advisories CLONE       writes tests/contract/advisories.json: facts alone, no text of an advisory
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from tests.recorded_advisories import RECORD, START, Advisory, Range, Record, locks, parsed, pins_of

SOURCE = "https://github.com/pypa/advisory-database"
LICENCE = "CC-BY-4.0, https://creativecommons.org/licenses/by/4.0/"
CHANGES = (
    "for requirements*.lock alone: ids, CVE ids and vulnerable versions; no texts, no withdrawn advisories"
)


def record_of(clone: Path, packages: Collection[str]) -> Record:
    """The advisories about some packages (canonical names) in the last commit of a clone, whatever is checked out.

    Raises ValueError for a folder that is no clone of the database, and for an advisory that cannot be understood.
    """
    commit, date = _git(clone, "log", "-1", "--format=%H %cs").decode().split()
    advisories = []
    with tarfile.open(fileobj=io.BytesIO(_git(clone, "archive", "--format=tar", "HEAD", "vulns"))) as files:
        for member in files:
            path = PurePosixPath(member.name)  # vulns/PACKAGE/ID.yaml
            if path.suffix == ".yaml" and canonicalize_name(path.parent.name) in packages:
                text = files.extractfile(member).read()  # type: ignore[union-attr]  # a file, by its suffix
                advisories += _facts(member.name, text, packages)
    if not advisories:
        raise ValueError(f"{clone}: no advisory about any package of the locks; is it a clone of {SOURCE}?")
    return Record(
        source=SOURCE,
        licence=LICENCE,
        changes=CHANGES,
        commit=commit,
        date=date,
        packages=sorted(packages),
        advisories=sorted(advisories, key=lambda advisory: (advisory.package, advisory.id)),
    )


def _git(clone: Path, *words: str) -> bytes:
    done = subprocess.run(["git", "-C", str(clone), *words], capture_output=True, check=False)
    if done.returncode:
        raise ValueError(f"{clone} is no clone of {SOURCE}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _facts(name: str, text: bytes, packages: Collection[str]) -> list[Advisory]:
    try:
        entry = yaml.safe_load(text)
        return list(advisories_of(entry, packages))
    except (KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{name}: {type(error).__name__}: {error}") from error


def advisories_of(entry: Mapping[str, Any], packages: Collection[str]) -> Iterable[Advisory]:
    """One advisory for each of the packages that an entry in OSV's format affects; none of a withdrawn entry."""
    if "withdrawn" in entry:
        return
    for affected in entry["affected"]:
        package = canonicalize_name(affected["package"]["name"])
        if affected["package"]["ecosystem"] != "PyPI" or package not in packages:
            continue
        ranges = [
            part
            for given in affected.get("ranges", ())
            if given["type"] != "GIT"  # commits; the versions stand beside them
            for part in _ranges(given["events"])
        ]
        yield Advisory(
            id=entry["id"],
            package=package,
            cve=[alias for alias in entry.get("aliases", ()) if alias.startswith("CVE-")],
            ranges=ranges,
            versions=[
                version for version in affected.get("versions", ()) if _is_in_no_range(version, ranges)
            ],
        )


def _ranges(events: Sequence[Mapping[str, str]]) -> Iterable[Range]:
    """The ranges that events of OSV mean, which may stand in any order. Raises ValueError for those without meaning."""
    for event in events:
        if len(event) != 1 or not set(event) <= {"introduced", "fixed", "last_affected"}:
            raise ValueError(f"an event {dict(event)}")
    pairs = [pair for event in events for pair in event.items()]
    introduced: str | None = None
    for kind, version in sorted(pairs, key=lambda pair: (pair[1] != START, parsed(pair[1]))):
        if kind == "introduced":
            introduced = version if introduced is None else introduced
        elif introduced is None:
            raise ValueError(f"{kind} {version} without an introduced before it")
        else:
            yield Range.model_validate({"introduced": introduced, kind: version})
            introduced = None
    if introduced is not None:
        yield Range(introduced=introduced)


def _is_in_no_range(version: str, ranges: Sequence[Range]) -> bool:
    try:
        found = Version(version)
    except InvalidVersion:
        return False  # from before PEP 440: neither uv nor pip installs it
    return not any(part.has(found) for part in ranges)


def write(record: Record, file: Path) -> None:
    """As JSON, with a line for each advisory, so that a change shows which one changed."""
    head = record.model_dump(mode="json", exclude={"packages", "advisories"})
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    lines += [f'"packages": {json.dumps(record.packages)},', '"advisories": [']
    lines += [",\n".join(json.dumps(one.model_dump(exclude_defaults=True)) for one in record.advisories)]
    file.write_text("\n".join(["{", *lines, "]", "}", ""]))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.record_advisories",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("clone", type=Path, help=f"a clone of {SOURCE}")
    parser.add_argument("--output", type=Path, default=RECORD, help="default: tests/contract/advisories.json")
    asked = parser.parse_args()
    try:
        record = record_of(asked.clone, {pin.package for pin in pins_of(locks())})
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    write(record, asked.output)
    print(
        f"{asked.output}: {len(record.advisories)} advisories about {len(record.packages)} packages, of {record.date}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
