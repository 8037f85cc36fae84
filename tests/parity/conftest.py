"""Session fixtures of the parity tests: engines, and Transformers on the same checkpoint."""

import pytest
import torch
from transformers import AudioFlamingo3ForConditionalGeneration, AudioFlamingo3Processor, AutoProcessor

from tests.engines import BuiltEngines, build_random_engines


@pytest.fixture(scope="session")
def engines() -> BuiltEngines:
    """fp32 engines of the random checkpoint."""
    return build_random_engines()


@pytest.fixture(scope="session")
def oracle(engines: BuiltEngines) -> AudioFlamingo3ForConditionalGeneration:
    """Transformers' model, fp32, on one thread so that sums are ordered the same in every run."""
    torch.set_num_threads(1)
    return AudioFlamingo3ForConditionalGeneration.from_pretrained(
        engines.checkpoint, dtype=torch.float32
    ).eval()


@pytest.fixture(scope="session")
def processor(engines: BuiltEngines) -> AudioFlamingo3Processor:
    """Transformers' processor of the same checkpoint."""
    return AutoProcessor.from_pretrained(engines.checkpoint)
