"""Runs build stages: named steps that are skipped while nothing that decides their result has changed.

A stage owns one folder, `OUTPUT/NAME/`. It is built in `OUTPUT/.NAME.building/` and renamed when complete, so a killed
build leaves no partial result and the next one resumes at the killed stage. `stage.json` beside the result holds the
stage's key, the figures of its verification, and the hash of every file.

A new stage is a function `build(folder) -> figures` and a `Stage` that lists what the result depends on:

    Stage("audio_encoder", build=partial(export, checkpoint), inputs={"checkpoint": checkpoint.sha256},
          code=(audio_encoder,), packages=("torch", "onnx"))
"""

import fcntl
import hashlib
import importlib.metadata
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

from build_engines.code_graph import code_hashes

STAMP = "stage.json"
LOCK = ".lock"
HASH_BLOCK_BYTES = 1 << 22

Figures = Mapping[str, float]


class BuildError(Exception):
    """A build cannot continue. The message tells the operator what was found, what is needed, and what to do."""


@dataclass(frozen=True)
class Stage:
    """One build step.

    build: writes its files into an empty folder and returns the figures of its verification. inputs: settings and
    hashes (JSON values) that decide the result. after: stages whose results it reads. code: modules that make it; their
    imports inside this repository count too. packages: distributions whose versions matter.
    """

    name: str
    build: Callable[[Path], Figures]
    inputs: Mapping[str, object]
    after: tuple["Stage", ...] = ()
    code: tuple[ModuleType, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Hash of everything that decides the result."""
        decides = {
            "inputs": self.inputs,
            "after": [stage.key for stage in self.after],
            "code": code_hashes(self.code),
            "packages": self.versions,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    @property
    def versions(self) -> dict[str, str]:
        """Installed version of every package that matters to this stage."""
        return {package: importlib.metadata.version(package) for package in self.packages}


@dataclass(frozen=True)
class Stamp:
    """What `stage.json` holds."""

    key: str
    figures: Figures
    files: Mapping[str, str]  # path inside the folder → sha256
    sizes: Mapping[str, int]  # the same paths → bytes, cheap to compare
    versions: Mapping[str, str]
    build_s: float


def run(
    stages: Sequence[Stage],
    output: Path,
    *,
    force: bool = False,
    dry_run: bool = False,
    only: str | None = None,
) -> dict[str, Stamp]:
    """Bring `OUTPUT/NAME/` of every stage up to date, in the order given, and return their stamps.

    force: build also what is up to date. only: build one stage and leave the others. dry_run: print what would be done.
    A stage that is still out of date has no stamp in the result. Raises BuildError for an unknown `only`, and
    whatever a stage's `build` raises.
    """
    names = [stage.name for stage in stages]
    if only is not None and only not in names:
        raise BuildError(f"--only {only}: there is no such stage; the stages are {', '.join(names)}")
    if not dry_run:
        output.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        if only not in (None, stage.name):
            continue
        if not force and is_current(stage, output):
            print(f"{stage.name}: up to date")
        elif dry_run:
            print(f"{stage.name}: would be built")
        else:
            with _alone(output):
                # Another process may have built it while this one waited.
                if not force and is_current(stage, output):
                    print(f"{stage.name}: up to date")
                else:
                    _build(stage, output)
    found = [(stage, read_stamp(output / stage.name)) for stage in stages]
    return {stage.name: stamp for stage, stamp in found if stamp is not None and stamp.key == stage.key}


def run_placed(
    placed: Sequence[tuple[Stage, Path]],
    *,
    force: bool = False,
    dry_run: bool = False,
    only: str | None = None,
) -> dict[str, Stamp]:
    """Like `run`, for stages in different folders."""
    names = [stage.name for stage, _ in placed]
    if only not in (None, *names):
        raise BuildError(f"--only {only}: there is no such stage; the stages are {', '.join(names)}")
    stamps: dict[str, Stamp] = {}
    for stage, folder in placed:
        wanted = only in (None, stage.name)
        stamps |= run([stage] if wanted else [], folder, force=force, dry_run=dry_run)
        stamp = read_stamp(folder / stage.name)
        if stamp is not None and stamp.key == stage.key:
            stamps[stage.name] = stamp
    return stamps


def is_current(stage: Stage, output: Path) -> bool:
    """Whether the stage's folder was built from the same inputs and still has every file in full size."""
    folder = output / stage.name
    stamp = read_stamp(folder)
    return stamp is not None and stamp.key == stage.key and stamp.sizes == _sizes(folder)


def read_stamp(folder: Path) -> Stamp | None:
    """Read the stamp of a built stage; None when the folder has none."""
    path = folder / STAMP
    return Stamp(**json.loads(path.read_text())) if path.exists() else None


def hash_file(path: Path) -> str:
    """sha256 of a file, with a progress bar when it takes seconds."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    bar = tqdm(total=size, desc=f"hashing {path.name}", unit="B", unit_scale=True, delay=2, leave=False)
    with path.open("rb") as file, bar:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def require(figure: str, value: float, bound: float) -> None:
    """Print a figure and its bound. Raises BuildError past the bound; NaN is past every bound."""
    print(f"  {figure}: {value:.3g} (bound {bound:.3g})")
    if not value <= bound:
        raise BuildError(
            f"{figure} is {value:.3g}, above its bound {bound:.3g}: the artifact does not compute what the "
            "checkpoint computes and was not installed"
        )


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """No other process builds in `output` meanwhile. The lock ends with its process, however that ends."""
    with (output / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process builds in {output}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(stage: Stage, output: Path) -> None:
    print(f"{stage.name}: building")
    started = time.monotonic()
    building = output / f".{stage.name}.building"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    figures = stage.build(building)
    build_s = round(time.monotonic() - started, 2)
    sizes = _sizes(building)
    files = {path: hash_file(building / path) for path in sizes}
    stamp = Stamp(stage.key, dict(figures), files, sizes, stage.versions, build_s)
    (building / STAMP).write_text(json.dumps(asdict(stamp), indent=2) + "\n")
    _replace(building, output / stage.name)
    megabytes = sum(sizes.values()) / 1e6
    print(f"{stage.name}: built in {build_s:.1f} s, {megabytes:.1f} MB")


def _replace(building: Path, folder: Path) -> None:
    """Replace `folder` by `building`. A kill in between leaves no folder, so the stage is built again."""
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        building.rename(folder)
        shutil.rmtree(old)
        return
    building.rename(folder)


def _sizes(folder: Path) -> dict[str, int]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != STAMP)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
