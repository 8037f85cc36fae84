"""Request parameters: bounds, types, and errors that name them."""

import pytest

from af3.errors import RequestError
from af3.parameters import Parameters, parse_parameters

REFUSED = [
    ({"max_tokens": 4097}, "'max_tokens'"),
    ({"max_tokens": 0}, "'max_tokens'"),
    ({"max_tokens": True}, "'max_tokens'"),
    ({"max_tokens": "12"}, "'max_tokens'"),
    ({"temperature": -0.1}, "'temperature'"),
    ({"temperature": float("nan")}, "'temperature'"),
    ({"temperature": 1e-46}, r"'temperature': should be 0 \(greedy\) or at least 0.001"),
    ({"read_cut_short": "yes"}, "'read_cut_short'"),
    ({"stop": "[" * 200_000}, "'stop'"),
    ({"stop": "[" + "9" * 5_000 + "]"}, "'stop'"),
    ({"top_p": 0.0}, "'top_p'"),
    ({"top_k": -1}, "'top_k'"),
    ({"repetition_penalty": 9.0}, "'repetition_penalty'"),
    ({"seed": 2**63}, "'seed'"),
    ({"stop": ""}, "'stop'"),
    ({"stop": '["a","b","c","d","e"]'}, "5 strings"),
    ({"think": 1}, "'think'"),
    ({"rate": 3.0}, "'rate'"),
    ({"best_of": 2}, "'best_of' is unknown; known are max_tokens"),
]


@pytest.mark.parametrize(("given", "cause"), REFUSED)
def test_a_bad_parameter_is_named(given: dict[str, object], cause: str) -> None:
    with pytest.raises(RequestError, match=cause) as refused:
        parse_parameters(given)
    assert refused.value.status == "INVALID_ARGUMENT"


def test_every_bad_parameter_is_named_at_once() -> None:
    with pytest.raises(RequestError, match=r"'top_k'.*'colour'"):
        parse_parameters({"top_k": -1, "colour": "red"})


def test_an_answer_is_no_longer_than_its_model_gives() -> None:
    assert parse_parameters({"max_tokens": 2048}, longest_answer=2048).max_tokens == 2048
    with pytest.raises(RequestError, match="'max_tokens': 2049 is more than the 2048 tokens of this model's"):
        parse_parameters({"max_tokens": 2049}, longest_answer=2048)


def test_the_default_is_greedy() -> None:
    assert parse_parameters({}) == Parameters()
    assert Parameters().greedy


def test_stop_is_one_string_or_a_json_list() -> None:
    assert parse_parameters({"stop": "."}).stop == (".",)
    assert parse_parameters({"stop": '["." , "\\n"]'}).stop == (".", "\n")
    assert parse_parameters({"stop": "[not json"}).stop == ("[not json",)


def test_an_http_id_is_not_an_unknown_parameter() -> None:
    assert parse_parameters({"id": "abc", "top_k": 3}).top_k == 3


@pytest.mark.parametrize("tokens", [1025, 5000, 2**62])
def test_too_long_an_answer_is_refused_with_the_limit_of_this_model(tokens: int) -> None:
    """Not with that of the family, at which it would be refused again."""
    with pytest.raises(RequestError, match="more than the 1024 tokens of this model's longest answer"):
        parse_parameters({"max_tokens": tokens}, 1024)
