"""Values of a parsed body (`json_body`) as fields of pydantic models, with their place in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator, WithJsonSchema

from serving.door.json_body import LongString


class Given(BaseModel):
    """A JSON object of a request: every field is known, and has the type that it says."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


def _text(value: Any) -> Any:
    return value.as_text() if isinstance(value, LongString) else value


def _long(value: Any) -> str | LongString:
    if not isinstance(value, str | LongString):
        raise ValueError("should be a string")
    return value


Text = Annotated[str, BeforeValidator(_text)]
LongText = Annotated[str | LongString, PlainValidator(_long), WithJsonSchema({"type": "string"})]
