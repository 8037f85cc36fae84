"""Runs in the environment of Transformers: its command line, which learns that AF3 takes sound.

`transformers serve` 5.24 refuses AF3 with "Unknown modality", though the library itself has the model.
"""

from __future__ import annotations

import sys

from transformers.cli.transformers import main
from transformers.models.auto import modeling_auto

modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES["audioflamingo3"] = (
    "AudioFlamingo3ForConditionalGeneration"
)

if __name__ == "__main__":
    sys.exit(main())
