"""The door and the launcher hold nothing of the model: what they import stays small."""

import subprocess
import sys

HEAVY = ("onnxruntime", "soundfile", "soxr", "tokenizers", "torch", "transformers")


def test_neither_the_door_nor_the_launcher_imports_the_model_side() -> None:
    code = f"import serving.host.launch, sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
