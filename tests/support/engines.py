"""The random checkpoint and its engines, built once and kept in `.cache/tests/` between runs."""

from dataclasses import dataclass
from pathlib import Path

from build_engines import stage
from build_engines.llm.decoder_graph import Precision
from build_engines.source.checkpoint import Checkpoint, open_checkpoint
from build_engines.targets import cpu
from training import random_model

CACHE = Path(__file__).parents[2] / ".cache" / "tests"
SEED = 0


@dataclass(frozen=True)
class BuiltEngines:
    """`checkpoint` for Transformers, `engines` for af3/ and the server."""

    checkpoint: Path
    engines: Path


def random_checkpoint(cache: Path = CACHE) -> Path:
    """Folder of the seeded random AF3 checkpoint."""
    made = stage.Stage(
        "random-checkpoint",
        build=_save,
        inputs={"seed": SEED},
        code=(random_model,),
        packages=("torch", "transformers"),
    )
    stage.run([made], cache)
    return cache / made.name


def build_random_engines(cache: Path = CACHE, precision: Precision = "fp32") -> BuiltEngines:
    """CPU engines of the random checkpoint, up to date with the code."""
    folder = random_checkpoint(cache)
    engines = cache / f"engines-{precision}" / "cpu"
    build_cpu_engines(open_checkpoint(str(folder)), precision, engines)
    return BuiltEngines(folder, engines)


def build_cpu_engines(source: Checkpoint, precision: Precision, output: Path) -> None:
    """What `python -m build_engines --target cpu` does, in this process."""
    stamps = stage.run(cpu.stages(source, precision), output)
    cpu.write_manifest(source, precision, stamps, output)


def _save(folder: Path) -> stage.Figures:
    random_model.save(folder, SEED)
    return {}
