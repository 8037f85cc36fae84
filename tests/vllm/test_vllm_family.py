"""On vLLM, too, greedy token ids of Audio Flamingo Next's class are those of Transformers, in float32."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from af3.contract import LONGEST_CLIP_SECONDS
from af3.manifest import Manifest
from serving.machine.gpu import VLLM_LINK
from tests.e2e.test_family import (  # noqa: F401  the same tests, on the server of this file
    asked,
    clips,
    engines,
    oracle,
    test_a_last_window_without_a_token_is_not_heard,
    test_a_request_among_ragged_ones_is_answered_as_alone,
    test_half_an_hour,
    test_one_clip_and_a_question,
    test_text_only_and_a_system_message,
    test_the_limits_are_those_of_the_checkpoint,
    test_the_same_sound_in_another_window_is_encoded_again,
    test_two_clips_in_one_turn,
    test_two_clips_in_two_turns,
)
from tests.support.clips import clip
from tests.support.engines import BuiltEngines
from tests.vllm.conftest import vllm_door

QUESTION = "What do you hear in this clip?"


@pytest.fixture(scope="module")
def url(engines: BuiltEngines) -> Iterator[str]:  # noqa: F811
    from tests.support import vllm

    folder = engines.engines.parents[1] / "vllm-next"
    vllm.build(engines.checkpoint, folder / "engines" / "cpu-vllm", {})
    with vllm_door(folder) as door:
        yield door.url


def test_the_folder_that_vllm_reads_has_all_positions_and_the_rope_of_the_checkpoint(
    engines: BuiltEngines,  # noqa: F811
    url: str,
) -> None:
    served = engines.engines.parents[1] / "vllm-next" / "engines" / VLLM_LINK
    config = json.loads((served / "llm" / "config.json").read_text())
    assert (config["max_position_embeddings"], config["rope_theta"]) == (131_072, 15_300_000.0)
    assert Manifest.read(served).limits.max_clip_seconds == LONGEST_CLIP_SECONDS


@pytest.fixture(scope="module")
def narrow(engines: BuiltEngines, url: str) -> Iterator[object]:  # noqa: F811
    """vLLM with a KV cache by the config that holds a tenth of the longest request."""
    from tests.support.vllm import Leaf

    leaf = Leaf(engines.engines.parents[1] / "vllm-next" / "engines" / VLLM_LINK, kv_cache_gib=0.006)
    yield leaf
    leaf.engine.close()


def test_the_kv_cache_of_a_cpu_has_room_for_the_longest_request(narrow, url: str) -> None:
    from tests.support.wire import ask, ids_of

    heard = [clip(1500, seed=11)]
    expected = ids_of(ask(url, heard, QUESTION, parameters={"max_tokens": 8}))
    assert narrow.ask("long", QUESTION, heard, max_tokens=8) == expected
