"""Reasoning through the whole server. No tiny model has learnt to think: its own first and a later token are named
`<think>` and `</think>` in the tokenizer that is served.
"""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from af3.manifest import TOKENIZER_FOLDER
from af3.tokenizer import Tokenizer
from perf.endless import link
from serving.door.door import Door
from tests.e2e.conftest import door_before, triton_on
from tests.support.engines import BuiltEngines
from tests.support.hearing import SPEECH
from tests.support.wire import Stream, ask, ids_of

ASKED: dict[str, Any] = {
    "prompt": "What do you think?",
    "parameters": {"max_tokens": 40, "temperature": 1.0, "seed": 5},
}
UNUSED = 10_000
BLOCK = r"\s*<think>\s*(.*?)\s*(?:</think>\s*|$)"


@pytest.fixture(scope="module")
def ids(server: Door) -> list[int]:
    """What the model writes, whatever its tokens are called."""
    return ids_of(ask(server.url, **ASKED))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the engines."""
    return tmp_path_factory.mktemp("thinking") / "engines" / "cpu"


@pytest.fixture(scope="module")
def thinking(engines: BuiltEngines, ids: list[int], served: Path) -> Iterator[Door]:
    folder = served.parents[1]
    link(engines.engines, folder)
    tokenizer = served / TOKENIZER_FOLDER
    source = tokenizer.resolve()
    tokenizer.unlink()
    tokenizer.mkdir()
    definition = json.loads((source / "tokenizer.json").read_text())
    vocabulary = definition["model"]["vocab"]
    pieces = {token: piece for piece, token in vocabulary.items()}
    for name, token in (("<think>", ids[0]), ("</think>", closes(ids))):
        vocabulary[pieces[token]] = UNUSED + token  # merges name it
        vocabulary[name] = token
    (tokenizer / "tokenizer.json").write_text(json.dumps(definition))
    with triton_on(folder) as triton, door_before(triton) as door:
        yield door


def closes(ids: list[int]) -> int:
    """The first token from the twelfth on that was not written before."""
    return next(token for place, token in enumerate(ids) if place >= 12 and token not in ids[:place])


@pytest.fixture(scope="module")
def expected(ids: list[int], thinking: Door, served: Path) -> tuple[str, str]:
    """Reasoning and answer of the whole text."""
    text = Tokenizer.load(served / TOKENIZER_FOLDER).decode(ids)
    thoughts = re.findall(BLOCK, text, re.DOTALL)
    assert thoughts[0] and re.sub(BLOCK, "", text, flags=re.DOTALL)
    return "".join(thoughts), re.sub(BLOCK, "", text, flags=re.DOTALL)


def test_reasoning_and_answer_come_apart(thinking: Door, ids: list[int], expected: tuple[str, str]) -> None:
    responses = ask(thinking.url, **ASKED)
    assert ids_of(responses) == ids
    assert ("".join(one.thinking for one in responses), "".join(one.text for one in responses)) == expected
    assert responses[-1].token_count == len(ids)


def test_reasoning_is_never_spoken(thinking: Door, expected: tuple[str, str]) -> None:
    thought = spoken = ""
    for result in Stream(thinking.url, model=SPEECH, **ASKED).results():
        for name in ("thinking", "speech_text"):
            value = result.as_numpy(name)
            piece = "" if value is None else value[0].decode()
            thought, spoken = (thought + piece, spoken) if name == "thinking" else (thought, spoken + piece)
    assert thought == expected[0]
    assert spoken and expected[1].startswith(spoken)


def test_a_whole_answer_over_http_has_its_reasoning_whole(thinking: Door, expected: tuple[str, str]) -> None:
    body = json.dumps({"prompt": ASKED["prompt"], **ASKED["parameters"]}).encode()
    url = f"http://{thinking.host}:{thinking.ports.http}/v2/models/audio_flamingo/generate"
    with urllib.request.urlopen(url, body, timeout=60) as reply:
        found = json.load(reply)
    assert (found["thinking"], found["text"]) == expected
