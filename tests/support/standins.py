"""Stand-ins for NVIDIA's programs: a folder of executables that record how they were called.

Each appends its words to `calls.jsonl` and writes what the real program would leave, small.
`behaviour.json` beside them makes one of them fail: {"program": "kill" | "fail" | "full" | "nothing"}.
"""

import json
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = ("python3", "polygraphy", "trtllm-build", "nvidia-smi", "docker")

PROGRAM = """#!{python} -S
import json, os, pathlib, signal, sys
here = pathlib.Path(__file__).parent
name, words = pathlib.Path(__file__).name, sys.argv[1:]
with open(here / "calls.jsonl", "a") as calls:
    calls.write(json.dumps([name, *words]) + "\\n")
behaviour = json.loads((here / "behaviour.json").read_text())
how = behaviour.get(name, "")
option = lambda flag: pathlib.Path(words[words.index(flag) + 1])
results = dict()
if name == "polygraphy" and words[0] == "convert":
    results = {{option("--output"): "engine"}}
    if "--save-timing-cache" in words:
        results[option("--save-timing-cache")] = "timing"
if name == "polygraphy" and "--save-outputs" in words:
    results = {{option("--save-outputs"): "answers"}}
if name == "trtllm-build":
    flags = {{"max_batch_size": "--max_batch_size", "max_seq_len": "--max_seq_len",
             "max_prompt_embedding_table_size": "--max_multimodal_len"}}
    limits = {{key: int(str(option(flag))) for key, flag in flags.items()}}
    model = json.loads((option("--checkpoint_dir") / "config.json").read_text())
    model = {{"vocab_size": model["vocab_size"], "dtype": "bfloat16"}}
    config = {{"build_config": limits, "pretrained_config": model}}
    folder = option("--output_dir")
    results = {{folder / "config.json": json.dumps(config), folder / "rank0.engine": "engine",
               option("--output_timing_cache"): "timing"}}
if name == "python3" and "build_engines.llm.fp8" in words:
    folder = option("--output")
    model = json.loads((option("--model") / "config.json").read_text())
    results = {{folder / "config.json": json.dumps(model), folder / "rank0.safetensors": "weights",
               folder / "figures.json": json.dumps({{"disagreement": 0.01, "kl_nats": 0.002}})}}
if name == "python3" and "serving.machine.gpu" in words:
    print("=== a greeting of the container ===")
    print((here / "gpu.json").read_text())
if how == "nothing":
    results = dict()
for place, (path, text) in enumerate(results.items()):
    path.write_text(text)
    if how == "kill":
        os.kill(os.getppid(), signal.SIGKILL)
if how in ("fail", "full"):
    print("[E] the reason", file=sys.stderr)
    sys.exit(3)
"""

GPU = {
    "identity": {
        "name": "NVIDIA H100 80GB HBM3",
        "compute_capability": "9.0",
        "driver": "575.57.08",
        "tensorrt": "10.11.0.33",
        "tensorrt_llm": "1.0.0",
        "image": "unknown",
    },
    "memory_bytes": 81_559 << 20,
}


def install(folder: Path, programs: Sequence[str] = PROGRAMS) -> Path:
    """Write the stand-ins into `folder`; it goes to the front of PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in programs:
        path = folder / name
        path.write_text(PROGRAM.format(python=sys.executable))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (folder / "gpu.json").write_text(json.dumps(GPU))
    behave(folder)
    return folder


def behave(folder: Path, **behaviour: str) -> None:
    """Make programs fail from now on; none when called without."""
    (folder / "behaviour.json").write_text(json.dumps(behaviour))


def calls(folder: Path) -> list[list[str]]:
    """Every call so far: the program's name, then its words."""
    path = folder / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
