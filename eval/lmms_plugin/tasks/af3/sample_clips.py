"""What lmms-eval asks about the sample clips, in memory as the sets of benchmarks hold them."""

from typing import Any

import soundfile


def clips(doc: dict[str, Any]) -> list[dict[str, Any]]:
    array, hz = soundfile.read(f"checkpoints/samples/{doc['clip']}", dtype="float32")
    return [{"array": array, "sampling_rate": hz}]


def question(doc: dict[str, Any]) -> str:
    return str(doc["question"])


def results(doc: dict[str, Any], answers: list[str]) -> dict[str, float]:
    return {"exact": float(answers[0].strip() == doc["answer"])}
