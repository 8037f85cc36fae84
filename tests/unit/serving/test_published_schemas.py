"""The check against OpenAI's published schemas finds what does not fit; the schemas themselves are not kept here."""

from typing import Any

import pytest

from tests.published_schemas import Published

DOCUMENT: dict[str, Any] = {
    "components": {
        "schemas": {
            "Usage": {
                "type": "object",
                "properties": {"tokens": {"type": "integer"}},
                "required": ["tokens"],
            },
            "RealtimeServerEventDone": {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "enum": ["done"]},
                    "usage": {"$ref": "#/components/schemas/Usage"},
                    "old": {"type": "string", "nullable": True},
                },
                "required": ["type", "old"],
            },
        }
    }
}
GOOD = {"type": "done", "old": "x", "usage": {"tokens": 1}}


@pytest.mark.parametrize("change", [{}, {"usage": None}, {"old": None}])
def test_what_fits_has_no_fault_and_null_stands_for_what_need_not_be_there(change: dict[str, Any]) -> None:
    published = Published(DOCUMENT)
    answer = GOOD | change
    assert published.faults(published.of_event(answer), answer) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"type": "finished"}, "$.type"),
        ({"usage": {"tokens": "1"}}, "$.usage"),
        ({"usage": {"tokens": None}}, "$.usage"),
        ({"old": 1}, "$.old"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(change: dict[str, Any], fault: str) -> None:
    (found,) = Published(DOCUMENT).faults("RealtimeServerEventDone", GOOD | change)
    assert found.startswith(fault)
