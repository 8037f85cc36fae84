"""The first 500 of the fuzzer's cases; `python -m tests.fuzz` does ten thousand."""

from serving.door.door import Door
from serving.server import Server
from tests.fuzz.requests import case
from tests.fuzz.run import good_answer, run

CASES = 500


def test_nothing_a_client_sends_harms_the_server_or_gets_a_wrong_status(server: Door, triton: Server) -> None:
    expected = good_answer(server.url)
    found = run(server.url, triton.url, map(case, range(CASES)))
    print(found.table())
    assert found.wrong == []
    assert found.counts.total() == CASES
    assert sum(count for (_, status), count in found.counts.items() if status == "answered") > CASES / 20
    assert good_answer(server.url) == expected


def test_a_number_is_always_the_same_case() -> None:
    """But for sounds: encoders put stamps of their own into OGG and MP3 files."""
    first, second = ([case(number) for number in range(200)] for _ in range(2))
    assert [each.kind for each in first] == [each.kind for each in second]
    assert [each.request for each in first if each.kind != "audio"] == [
        each.request for each in second if each.kind != "audio"
    ]
