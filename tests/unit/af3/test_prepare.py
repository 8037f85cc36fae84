"""A request of a client → the tensors of the next steps."""

import io
import json

import numpy as np
import pytest
import soundfile

from af3 import contract
from af3.errors import RequestError
from af3.inputs.prepare import Preprocessor
from af3.llm.generation import generation
from tests.support.tiny import END_OF_TEXT, END_OF_TURN, TOKENIZER, VOCABULARY, manifest


def wav(seconds: float, level: float = 0.1) -> bytes:
    file = io.BytesIO()
    soundfile.write(
        file, np.full(int(16_000 * seconds), level, np.float32), 16_000, format="WAV", subtype="FLOAT"
    )
    return file.getvalue()


def prepare(
    *files: bytes,
    prompt: str | None = "What?",
    messages: str | None = None,
    name: str = "id",
    **parameters: object,
) -> dict[str, np.ndarray]:
    preprocessor = Preprocessor(manifest(), TOKENIZER, ["en-us"])
    return preprocessor.prepare(name, dict(parameters), files, prompt, messages)


def value(tensors: dict[str, np.ndarray], tensor: contract.Tensor) -> object:
    return tensors[tensor.name].reshape(-1)[0]


def test_every_tensor_has_the_name_dtype_and_dims_of_the_contract() -> None:
    tensors = prepare(wav(1.0), repetition_penalty=1.2)
    assert set(tensors) == {tensor.name for tensor in contract.PREPROCESS.outputs}
    numpy_names = {"FP32": "float32", "INT32": "int32", "UINT64": "uint64", "BOOL": "bool"}
    for tensor in contract.PREPROCESS.outputs:
        array = tensors[tensor.name]
        assert array.dtype.name == numpy_names[tensor.dtype], tensor.name
        assert array.ndim == 1 + len(tensor.dims) and len(array) == 1, tensor.name
        assert all(dim in (-1, size) for dim, size in zip(tensor.dims, array.shape[1:], strict=True)), (
            tensor.name
        )


def test_the_pcm_is_the_clips_in_windows() -> None:
    tensors = prepare(wav(31.0, 0.25), wav(2.0, 0.5))
    assert tensors["pcm_lengths"].tolist() == [[480_000, 16_000, 32_000]]
    assert tensors["pcm"].shape == (1, 3, 480_000)
    assert [
        row[:length].mean() for row, length in zip(tensors["pcm"][0], (480_000, 16_000, 32_000), strict=True)
    ] == (pytest.approx([0.25, 0.25, 0.5]))
    assert (tensors["pcm"][0, 1, 16_000:] == 0).all()


def test_a_question_without_audio_has_no_window_and_no_audio_token() -> None:
    tensors = prepare()
    assert tensors["pcm"].shape == (1, 0, 0) and tensors["pcm_lengths"].shape == (1, 0)
    assert tensors["input_ids"].max() < VOCABULARY


def test_stop_words_are_the_ends_after_the_first() -> None:
    tensors = prepare()
    assert value(tensors, contract.END_ID) == END_OF_TURN
    assert tensors["stop_words_list"].tolist() == [[[END_OF_TEXT], [1]]]
    given = {tensor.name: tensors.get(tensor.name) for tensor in contract.LLM.inputs}
    assert generation("id", given).stop_words == ((END_OF_TEXT,),)


def test_answers_are_greedy_unless_a_temperature_is_given() -> None:
    greedy, sampled = prepare(), prepare(temperature=0.5, top_k=7, top_p=0.25)
    assert (value(greedy, contract.RUNTIME_TOP_K), value(greedy, contract.TEMPERATURE)) == (1, 1.0)
    assert (value(sampled, contract.RUNTIME_TOP_K), value(sampled, contract.TEMPERATURE)) == (7, 0.5)
    assert value(sampled, contract.RUNTIME_TOP_P) == 0.25


def test_a_seed_is_passed_on_and_drawn_where_none_is_given() -> None:
    assert value(prepare(seed=11), contract.SEED) == 11
    assert value(prepare(), contract.SEED) != value(prepare(), contract.SEED)


def test_request_parameters_reach_the_llm() -> None:
    tensors = prepare(max_tokens=33, repetition_penalty=1.25)
    assert value(tensors, contract.REQUEST_OUTPUT_LEN) == 33
    assert value(tensors, contract.REPETITION_PENALTY) == 1.25
    assert value(tensors, contract.INPUT_LENGTHS) == tensors["input_ids"].shape[1]
    assert value(tensors, contract.STREAMING)


def test_nothing_is_penalised_where_nobody_asked_for_it() -> None:
    """TensorRT-LLM runs its penalty kernel over every batch in which a request brings the tensor."""
    asked = {tensor.name for tensor in contract.PREPROCESS.outputs}
    for tensors in (prepare(), prepare(repetition_penalty=1.0)):
        assert asked - set(tensors) == {contract.REPETITION_PENALTY.name}
    whole = {tensor.name: prepare().get(tensor.name) for tensor in contract.LLM.inputs}
    assert generation("id", whole).sampling.repetition_penalty == 1.0


def test_two_users_clips_never_share_a_hash() -> None:
    """TensorRT-LLM reuses the KV cache of a prompt whose ids and extra ids it has seen before."""
    one, other = (prepare(wav(1.0, level))["prompt_table_extra_ids"][0] for level in (0.1, 0.2))
    audio = prepare(wav(1.0, 0.1))["input_ids"][0] >= VOCABULARY
    assert (one[audio] != other[audio]).all() and (one[~audio] == other[~audio]).all()


@pytest.mark.parametrize("size", [1, contract.MAX_REQUEST_ID])
def test_an_id_up_to_the_longest_is_taken(size: int) -> None:
    prepare(name="x" * size)


@pytest.mark.parametrize("name", ["", "x" * (contract.MAX_REQUEST_ID + 1)])
def test_a_missing_or_long_id_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="id"):
        prepare(name=name)


def test_an_empty_prompt_needs_a_clip() -> None:
    prepare(wav(1.0), prompt="")
    with pytest.raises(RequestError, match="empty and without audio"):
        prepare(prompt="")


@pytest.mark.parametrize(
    ("prompt", "messages", "found"), [(None, None, "neither"), ("x", "[]", "both")], ids=["neither", "both"]
)
def test_exactly_one_of_prompt_and_messages_is_needed(
    prompt: str | None, messages: str | None, found: str
) -> None:
    with pytest.raises(RequestError, match=found):
        prepare(prompt=prompt, messages=messages)


def test_a_conversation_keeps_its_clips_in_their_turns() -> None:
    turns = [
        {"role": "user", "content": [{"type": "audio"}]},
        {"role": "assistant", "content": "A bell."},
        {"role": "user", "content": [{"type": "audio"}]},
    ]
    tensors = prepare(wav(1.0, 0.1), wav(1.0, 0.2), prompt=None, messages=json.dumps(turns))
    audio = (tensors["input_ids"][0] >= VOCABULARY).astype(int)
    assert np.abs(np.diff(audio)).sum() == 4  # two islands of audio tokens


@pytest.mark.parametrize(
    ("parameters", "cause"),
    [({"voice": "nobody"}, "voice"), ({"max_tokens": 0}, "max_tokens"), ({"colour": 1}, "colour")],
)
def test_a_wrong_parameter_is_refused_by_its_name(parameters: dict[str, object], cause: str) -> None:
    with pytest.raises(RequestError, match=cause):
        prepare(**parameters)


def flac_silence(seconds: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(16_000 * seconds, np.int16), 16_000, format="FLAC")
    return file.getvalue()


def test_clips_behind_the_one_that_is_too_much_are_not_decoded() -> None:
    """40 small files, each of which could be heard alone."""
    preprocessor = Preprocessor(manifest(), TOKENIZER, ["en-us"])
    decoded = []
    decode = preprocessor._decoder.decode
    preprocessor._decoder.decode = lambda *given, **named: decoded.append(given[1]) or decode(*given, **named)
    with pytest.raises(
        RequestError, match=r"audio: 2 clip\(s\) of 80.0 s in all are .* send fewer or shorter"
    ):
        preprocessor.prepare("id", {}, [flac_silence(40)] * 40, "What?", None)
    assert decoded == ["audio[0]", "audio[1]"]
    preprocessor.close()


def test_more_clips_than_a_request_may_have_are_refused_unread() -> None:
    with pytest.raises(RequestError, match="audio: 257 clips, at most 256 are heard in one request"):
        prepare(*[b"no file"] * 257)


def test_a_file_that_is_cut_short_is_read_when_the_request_says_so() -> None:
    cut = wav(1.0)[:-16_000]
    with pytest.raises(RequestError, match=r"audio\[0\]: the file is cut short .* or with read_cut_short"):
        prepare(cut)
    assert prepare(cut, read_cut_short=True)["pcm_lengths"].tolist() == [[12_000]]
