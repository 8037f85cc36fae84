"""The steps of an acceptance run, in order: what each does, its commands, and what to do when it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from build_engines.tools import Tools
from serving.machine.container import GPU_IMAGE

TINY = "checkpoints/af3-tiny"
CHECKPOINT = "nvidia/audio-flamingo-3-hf"
PORT = 8001
STREAMS = (1, 8, 64)
# Two sets of the real engines with their parts (the second in BF16), vLLM with its files, checkpoint and image.
DISK_GB = 180
# Of the questions whose answer may differ. af3-tiny is small and greedy: BF16 turns a near tie now and then.
LEAST_SAME = {"tiny": 0.75, "fp8": 0.8, "transformers": 0.6}


@dataclass(frozen=True)
class Step:
    """`commands` run one after the other; with `serves`, while the server of that target and folder is up.

    results: JSON files the commands write, that the report takes up. needs: steps that must have passed.
    """

    name: str
    does: str
    commands: tuple[tuple[str, ...], ...]
    remedy: str
    serves: tuple[str, Path] | None = None
    results: tuple[Path, ...] = ()
    needs: tuple[str, ...] = ()


def steps(
    target: str, folder: Path, checkpoint: str, container: Tools, calibration: Path | None = None
) -> list[Step]:
    """All steps. folder: absolute, keeps engines, answers and logs; container: how NVIDIA's tools are started.

    calibration: folder of clips that FP8 is calibrated on.
    """
    calibrated = () if calibration is None else ("--calibration", str(calibration))
    tiny, full = folder / "tiny", folder / "full"
    cpu_engines, answers = tiny / "engines" / "cpu", folder / "answers"
    url = f"127.0.0.1:{PORT}"

    def build(target_name: str, source: str, output: Path, *options: str) -> tuple[str, ...]:
        words = ("build_engines", "--target", target_name, "--checkpoint", source, "--output", str(output))
        return _module(*words, *options)

    def ask(to: Path) -> tuple[str, ...]:
        return _module("perf.acceptance.compare_answers", "ask", "--url", url, "--out", str(to))

    def compare(one: str, other: str, least: float) -> tuple[str, ...]:
        files = (str(answers / f"{one}.json"), str(answers / f"{other}.json"))
        to = str(answers / f"{one}-{other}.json")
        return _module(
            "perf.acceptance.compare_answers", "compare", *files, "--least", str(least), "--out", to
        )

    image = folder / "image.json"
    checks = ["python3", "-m", "perf.acceptance.image_checks", "--out", str(image)]
    return [
        Step(
            "image",
            "five minutes of questions to NVIDIA's image: programs, packages, CUDA from Python, trtllm-build's options",
            (tuple(container.command(checks)),),
            "send image.json as it is: every answer in it was a guess so far",
            results=(image,),
        ),
        Step(
            "server-image",
            "the image that serves",
            (_module("serving.machine.container", "--target", target),),
            "its output names the package that does not install; docker/image_packages.py holds what may not move",
        ),
        Step(
            "tiny-cpu",
            "af3-tiny's engines for a CPU, and its answers on the same machine's CPU: what the GPU is compared with",
            (build("cpu", TINY, cpu_engines),),
            "run `make setup` and `make test`; this step needs no GPU",
        ),
        Step(
            "tiny-cpu-answers",
            "the questions of checkpoints/samples to the CPU's server",
            (ask(answers / "tiny-cpu.json"),),
            "the server's log is beside this step's",
            serves=("cpu", tiny),
            results=(answers / "tiny-cpu.json",),
            needs=("tiny-cpu",),
        ),
        Step(
            "tiny-engines",
            "af3-tiny's engines for the GPU, BF16: every program of NVIDIA's once, in minutes",
            (build(target, TINY, tiny / "engines" / target, "--precision", "bf16"),),
            "the failing program's reason is in the log; docs/gpu.md says which stage is which",
        ),
        Step(
            "tiny-answers",
            "the same questions to the GPU's server, compared token by token with the CPU's answers",
            (ask(answers / "tiny-gpu.json"), compare("tiny-cpu", "tiny-gpu", LEAST_SAME["tiny"])),
            "send both files of answers: different first tokens point at the encoder, later ones at BF16",
            serves=(target, tiny),
            results=(answers / "tiny-cpu-tiny-gpu.json",),
            needs=("server-image", "tiny-cpu-answers", "tiny-engines"),
        ),
        Step(
            "engines",
            "the real checkpoint's engines in the target's own precision",
            (build(target, checkpoint, full / "engines" / target, *calibrated),),
            "a limit that does not fit is named with what to lower it to; a killed build resumes with the same command",
        ),
        Step(
            "encoder-speed",
            "milliseconds per 30 s window of the encoder's engine, alone and twenty together, against its floor",
            (
                (
                    *server_image(container),
                    *("-m", "perf.acceptance.encoder_speed"),
                    *("--engines", str(full / "engines" / target)),
                    *("--out", str(folder / "encoder.json")),
                ),
            ),
            "look for fused attention: polygraphy inspect model model.plan --show layers | grep -i mha",
            results=(folder / "encoder.json",),
            needs=("server-image", "engines"),
        ),
        Step(
            "answers-and-speed",
            "the questions, then time to first token, between tokens, and tokens a second at 1, 8 and 64 streams",
            (
                ask(answers / "full.json"),
                _module(
                    *("perf.acceptance.speed", "--url", url, "--out", str(folder / "speed.json")),
                    *("--streams", *map(str, STREAMS)),
                ),
            ),
            "`docker logs` of the server, and its log in this folder",
            serves=(target, full),
            results=(answers / "full.json", folder / "speed.json"),
            needs=("server-image", "engines"),
        ),
        Step(
            "bad-input",
            "broken, hostile and cancelled requests to the running server; it has to answer afterwards",
            (
                _module(
                    "perf.acceptance.compare_answers",
                    "disturb",
                    "--url",
                    url,
                    "--out",
                    str(folder / "bad.json"),
                ),
            ),
            "the last request before the server went is in the log",
            serves=(target, full),
            results=(folder / "bad.json",),
            needs=("server-image", "engines"),
        ),
        Step(
            "bf16",
            "BF16 engines of the real checkpoint, and how many of their answers FP8 keeps",
            (build(target, checkpoint, folder / "bf16" / "engines" / target, "--precision", "bf16"),),
            "BF16 may not fit a small GPU: then this comparison is left out",
            needs=("engines",),
        ),
        Step(
            "bf16-answers",
            "the questions to the BF16 server, compared with the answers above",
            (ask(answers / "bf16.json"), compare("bf16", "full", LEAST_SAME["fp8"])),
            "calibrate on clips like your own: CALIBRATION=folder",
            serves=(target, folder / "bf16"),
            results=(answers / "bf16-full.json",),
            needs=("bf16", "answers-and-speed"),
        ),
        *_others(build, ask, compare, checkpoint, folder),
        Step(
            "killed",
            "steps and Triton itself killed under questions: every answer ends, and the server answers again",
            (
                _module(
                    "perf.acceptance.kills",
                    "--target",
                    target,
                    "--folder",
                    str(full),
                    "--out",
                    str(folder / "kills.json"),
                ),
            ),
            "kills.json says which process it was and what its clients saw; the server's log is in this folder",
            results=(folder / "kills.json",),
            needs=("server-image", "engines"),
        ),
    ]


def _others(
    build: Callable[..., tuple[str, ...]],
    ask: Callable[[Path], tuple[str, ...]],
    compare: Callable[[str, str, float], tuple[str, ...]],
    checkpoint: str,
    folder: Path,
) -> list[Step]:
    """vLLM on the same GPU, and Transformers: what TensorRT-LLM is held against."""
    vllm, answers = folder / "vllm", folder / "answers"
    url = f"127.0.0.1:{PORT}"
    return [
        Step(
            "transformers-answers",
            "the questions to Transformers on the same GPU in BF16, with its tokens a second",
            (
                _module(
                    *("perf.acceptance.transformers_answers", "--checkpoint", checkpoint),
                    *(
                        "--out",
                        str(answers / "transformers.json"),
                        "--speed",
                        str(folder / "transformers_speed.json"),
                    ),
                ),
            ),
            "torch of .venv must be one for CUDA: pip install torch; without it compare with the CPU's answers",
            results=(folder / "transformers_speed.json",),
        ),
        Step(
            "against-transformers",
            "how many answers of the engines above are Transformers' own, token by token",
            (compare("transformers", "full", LEAST_SAME["transformers"]),),
            "a first token that differs points at the encoder or the prompt, later ones at the precision",
            results=(answers / "transformers-full.json",),
            needs=("transformers-answers", "answers-and-speed"),
        ),
        Step(
            "vllm-engines",
            "the same checkpoint for vLLM, BF16: split and exported, nothing compiled",
            (
                ("make", "setup-vllm", "GPU=any"),
                build("any", checkpoint, vllm / "engines" / "any"),
            ),
            "`make doctor GPU=any` says what is missing; vLLM wants driver 580",
        ),
        Step(
            "vllm-answers-and-speed",
            "the questions and the same load to vLLM, beside TensorRT-LLM's and Transformers' answers",
            (
                ask(answers / "vllm.json"),
                compare("transformers", "vllm", LEAST_SAME["transformers"]),
                _module(
                    *("perf.acceptance.speed", "--url", url, "--out", str(folder / "vllm_speed.json")),
                    *("--streams", *map(str, STREAMS)),
                ),
            ),
            "the server's log is beside this step's",
            serves=("any", vllm),
            results=(answers / "transformers-vllm.json", folder / "vllm_speed.json"),
            needs=("transformers-answers", "vllm-engines"),
        ),
    ]


def server_image(container: Tools) -> tuple[str, ...]:
    """python3 of the image that serves, which has the server's packages beside NVIDIA's."""
    if not container.prefix:  # this is a container already
        return ("python3",)
    return (*container.prefix[:-1], "--entrypoint", "python3", GPU_IMAGE)


def _module(name: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *words)
