"""The settings of the steps, read from the very files that are served."""

from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from serving.address import ServerError
from serving.host.triton import MODEL_REPOSITORY
from serving.steps.settings import OF_STEP, LlmSettings, PreprocessSettings
from tests.support.pb_utils_stand_in import config

GOOD: dict[str, object] = {
    "engine_dir": "e",
    "slots": 8,
    "max_queue": 64,
    "prefill_tokens": 256,
    "threads": 2,
}
# The C++ backend reads this file, not a step of ours.
FILES = [
    path
    for path in sorted(MODEL_REPOSITORY.glob("*/configs/*.pbtxt"))
    if 'backend: "python"' in path.read_text()
]


def read(path: Any) -> Mapping[str, Any]:
    message = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_every_config_of_a_python_step_is_whole(path: Any) -> None:
    name = path.parts[-3]
    OF_STEP[name].from_config(read(path))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"slots": "two"}, "model 'llm': setting 'slots' is 'two'"),
        ({"slots": 0}, "setting 'slots' is '0'"),
        ({"slotz": 1}, "setting 'slotz' is unknown"),
        ({"threads": "1.5"}, "setting 'threads' is '1.5'"),
        ({"max_queue": -1}, "setting 'max_queue' is '-1'"),
    ],
)
def test_a_wrong_setting_is_named(changed: dict[str, object], sentence: str) -> None:
    with pytest.raises(ServerError, match=sentence):
        LlmSettings.from_config(config("llm", **GOOD | changed))


def test_every_missing_setting_is_named() -> None:
    with pytest.raises(ServerError, match="setting 'engine_dir' is missing; setting 'niceness' is missing"):
        PreprocessSettings.from_config({"name": "preprocess"})


def test_settings_cannot_be_changed() -> None:
    settings = LlmSettings.from_config(config("llm", **GOOD))
    with pytest.raises(ValueError, match="frozen"):
        settings.slots = 9  # type: ignore[misc]
