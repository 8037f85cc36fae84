"""Advisories recorded from PyPA's database, and what the locks hold judged by them; needs no internet."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, model_validator

REPOSITORY = Path(__file__).resolve().parents[1]
RECORD = Path(__file__).parent / "contract" / "advisories.json"
START = "0"  # in OSV: before every version, pre-releases of 0 too


class Pin(NamedTuple):
    package: str
    version: str


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(Strict):
    """Versions from `introduced`, up to but without `fixed`, or up to and with `last_affected`, or all later ones."""

    introduced: str
    fixed: str | None = None
    last_affected: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Range:
        ends = [end for end in (self.fixed, self.last_affected) if end is not None]
        if len(ends) > 1:
            raise ValueError(f"{self}: a range ends with fixed or with last_affected")
        first, *last = [parsed(version) for version in (self.introduced, *ends)]
        if last and (last[0] < first or (last[0] == first and self.fixed is not None)):
            raise ValueError(f"{self}: the range ends before it begins")
        return self

    def has(self, version: Version) -> bool:
        if self.introduced != START and version < Version(self.introduced):
            return False
        if self.fixed is not None:
            return version < Version(self.fixed)
        return self.last_affected is None or version <= Version(self.last_affected)


class Advisory(Strict):
    """One advisory about one package. versions: vulnerable ones that are in no range."""

    id: str
    package: str
    cve: tuple[str, ...] = ()
    ranges: tuple[Range, ...] = ()
    versions: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_versions(self) -> Advisory:
        if not self.ranges and not self.versions:
            raise ValueError(f"{self.id}: neither a range nor a version")
        for version in self.versions:
            parsed(version)
        return self

    def affects(self, version: str) -> bool:
        # A local version (2.13.0+cpu) is a build of the public one.
        found = Version(parsed(version).public)
        return any(part.has(found) for part in self.ranges) or found in map(Version, self.versions)

    def mended_in(self) -> str:
        return ", ".join(part.fixed for part in self.ranges if part.fixed is not None) or "no version"


class Record(Strict):
    """What was recorded. packages: all that were looked up, with advisories or without."""

    source: str
    licence: str
    changes: str
    commit: Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
    date: datetime.date
    packages: tuple[str, ...]
    advisories: tuple[Advisory, ...]

    def problems(self, pins: Iterable[Pin]) -> list[str]:
        """Vulnerable pins, and pins of packages that were not looked up when the record was made."""
        found = []
        for pin in sorted(pins):
            if pin.package not in self.packages:
                found.append(
                    f"{pin.package}: not in the record of {self.date}; `make audit ADVISORIES=…` records again"
                )
            for advisory in self.advisories:
                if advisory.package == pin.package and advisory.affects(pin.version):
                    names = " ".join((advisory.id, *advisory.cve))
                    found.append(f"{pin.package} {pin.version}: {names}, mended in {advisory.mended_in()}")
        return found


def parsed(version: str) -> Version:
    """The version. Raises ValueError for what is none."""
    try:
        return Version(version)
    except InvalidVersion:
        raise ValueError(f"{version!r} is no version") from None


def read(file: Path = RECORD) -> Record:
    """The record. Raises ValueError for a malformed one."""
    return Record.model_validate_json(file.read_text())


def locks(folder: Path = REPOSITORY) -> list[Path]:
    return sorted(folder.glob("requirements*.lock"))


def pins_of(files: Sequence[Path]) -> set[Pin]:
    """Every pin of some locks, for every platform and Python. Raises ValueError for a line that pins no version."""
    return {pin for file in files for pin in _pins(file)}


def _pins(file: Path) -> Iterable[Pin]:
    for line in file.read_text().splitlines():
        if not line.strip() or line.lstrip().startswith(("#", "--hash=")):
            continue
        try:
            requirement = Requirement(line.rstrip(" \\"))
            [pin] = requirement.specifier
            if pin.operator != "==":
                raise ValueError
            yield Pin(canonicalize_name(requirement.name), str(parsed(pin.version)))
        except (InvalidRequirement, ValueError):
            raise ValueError(f"{file.name}: {line!r} pins no version") from None
