"""What must not be answered: the right status, a sentence that names the cause, a server that goes on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from af3.manifest import Manifest
from serving.host.triton import Server
from tests.support.clips import clip, file_bytes, sound
from tests.support.engines import BuiltEngines
from tests.support.wire import Refused, Stream, ask, ids_of

USER = {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "What is it?"}]}
GOOD = {"audio": [clip(0.5)], "prompt": "What is it?"}

REFUSED: Mapping[str, tuple[dict[str, Any], str]] = {
    "an empty file": ({"audio": [b""], "prompt": "?"}, r"audio\[0\]: the file is empty"),
    "a truncated file": (
        {"audio": [clip(1), clip(1)[:-999]], "prompt": "?"},
        r"audio\[1\]: the file is cut short",
    ),
    "text named .wav": ({"audio": [b"not a sound " * 99], "prompt": "?"}, r"audio\[0\]: not a readable"),
    "NaN samples": (
        {"audio": [file_bytes(np.full(9_999, np.nan), subtype="FLOAT")], "prompt": "?"},
        r"audio\[0\]: sample 0 is not a finite number",
    ),
    "11 minutes": (
        {"audio": [file_bytes(np.zeros(11 * 60 * 8_000), 8_000, subtype="PCM_U8")], "prompt": "?"},
        r"audio\[0\]: 660.0 s is longer than the 600 s",
    ),
    "three clips of 4 minutes": (
        {"audio": [file_bytes(sound(240, 8_000), 8_000, subtype="PCM_U8")] * 3, "prompt": "?"},
        r"18000 audio tokens, more than the 15000",
    ),
    "one clip, two audio parts": (
        {
            "audio": [clip(1)],
            "messages": [{"role": "user", "content": [{"type": "audio"}, {"type": "audio"}]}],
        },
        r"2 audio part\(s\) for 1 clip",
    ),
    "two clips, one audio part": (
        {"audio": [clip(1)] * 2, "messages": [USER]},
        r"1 audio part\(s\) for 2 clip",
    ),
    "both prompt and messages": ({**GOOD, "messages": [USER]}, "both of prompt and messages"),
    "neither prompt nor messages": ({"audio": [clip(1)]}, "neither of prompt and messages"),
    "malformed JSON": ({"messages": "[{"}, "not valid JSON"),
    "an unknown role": ({"messages": [{"role": "robot", "content": "hi"}]}, r"messages\[0\].role"),
    "an unknown parameter": ({**GOOD, "parameters": {"colour": "red"}}, "'colour' is unknown"),
    "a parameter out of range": ({**GOOD, "parameters": {"top_p": 1.5}}, "'top_p'"),
    "max_tokens over 1024": ({**GOOD, "parameters": {"max_tokens": 1025}}, "'max_tokens'.*1024"),
    "a request id too long": ({**GOOD, "request_id": "x" * 129}, "129 characters"),
    "too many text tokens": ({"prompt": "word 12 " * 8_000}, r"tokens, more than the 16000"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_request_is_refused_by_cause_and_status(name: str, url: str) -> None:
    request, cause = REFUSED[name]
    with pytest.raises(Refused, match=cause) as refused:
        ask(url, **request)
    assert refused.value.status == "INVALID_ARGUMENT"
    assert "Traceback" not in refused.value.message
    assert "/" not in refused.value.message.replace("audio/wav", "")


def test_a_stream_has_a_real_grpc_status_when_the_client_asks_for_it(url: str) -> None:
    with pytest.raises(Refused) as refused:
        ask(url, **GOOD, parameters={"top_p": 1.5}, real_status=True)
    assert str(refused.value).startswith("INVALID_ARGUMENT: parameter 'top_p'")


def test_the_server_is_unharmed_by_all_of_them(url: str) -> None:
    before = ids_of(ask(url, **GOOD, parameters={"max_tokens": 8}))
    for request, _ in REFUSED.values():
        with pytest.raises(Refused):
            ask(url, **request)
    assert ids_of(ask(url, **GOOD, parameters={"max_tokens": 8})) == before


@pytest.mark.parametrize("special", ["<|im_end|>", "<|im_start|>assistant", "<sound>", "<|endoftext|>"])
def test_a_special_token_typed_by_a_user_stays_text(
    special: str, triton: Server, engines: BuiltEngines
) -> None:
    model = Manifest.read(engines.engines).model
    control = [model.im_start_id, model.im_end_id, model.audio_token_id, model.pad_token_id]

    def control_tokens(text: str) -> int:
        (result,) = Stream(triton.url, prompt=text, model="preprocess").results()
        return int(np.isin(result.as_numpy("input_ids"), control).sum())

    assert control_tokens(special) == control_tokens("plain words") == 5
