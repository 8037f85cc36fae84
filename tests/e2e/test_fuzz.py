"""The first 500 of the fuzzer's cases; `python -m tests.fuzz` does ten thousand."""

from pathlib import Path

from tests.e2e.conftest import door_before, triton_on
from tests.fuzz.requests import case
from tests.fuzz.run import good_answer, run
from tests.support.engines import BuiltEngines

CASES = 500


def test_nothing_a_client_sends_harms_the_server_or_gets_a_wrong_status(
    engines: BuiltEngines, tmp_path: Path
) -> None:
    """On a server of its own: raw tensors leave answers in its steps that end only when they have been idle."""
    (tmp_path / "engines").symlink_to(engines.engines.parent)
    with triton_on(tmp_path) as triton, door_before(triton) as door:
        expected = good_answer(door.url)
        found = run(door.url, triton.url, map(case, range(CASES)))
        print(found.table())
        assert found.wrong == []
        assert found.counts.total() == CASES
        assert sum(count for (_, status), count in found.counts.items() if status == "answered") > CASES / 20
        assert good_answer(door.url) == expected


def test_a_number_is_always_the_same_case() -> None:
    """But for sounds: encoders put stamps of their own into OGG and MP3 files."""
    first, second = ([case(number) for number in range(200)] for _ in range(2))
    assert [each.kind for each in first] == [each.kind for each in second]
    assert [each.request for each in first if each.kind != "audio"] == [
        each.request for each in second if each.kind != "audio"
    ]
