"""Fields that OpenAI has and this server does not do: refused by name, or without effect on the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from serving.door.openai.openai_errors import WRONG_VALUE, FieldError, unsupported

SHOWN = 64


@dataclass(frozen=True)
class NotDone:
    """`why`: what a client that sends it is told. `neutral`: values that ask for nothing, beside null."""

    why: str
    neutral: tuple[Any, ...] = ()


def take_out(
    given: Mapping[str, Any], not_done: Mapping[str, NotDone], without_effect: frozenset[str], place: str = ""
) -> dict[str, Any]:
    """`given` without the fields that ask for nothing. Raises FieldError for one that asks for what is not done."""
    kept = {}
    for name, value in given.items():
        if any("\ud800" <= one <= "\udfff" for one in name):
            raise FieldError(
                f"{place}{name[:SHOWN]}: half of a surrogate pair in the name of a field; send valid Unicode",
                f"{place}{name[:SHOWN]}",
                WRONG_VALUE,
            )
        if name in not_done:
            if value is not None and not any(_same(value, neutral) for neutral in not_done[name].neutral):
                raise unsupported(f"{place}{name}", not_done[name].why)
        elif name not in without_effect:
            kept[name] = value
    return kept


def without_nulls(given: Mapping[str, Any]) -> dict[str, Any]:
    """Clients that know one kind of object for all roles or parts send null for what this one has not."""
    return {name: value for name, value in given.items() if value is not None}


def field_error(error: ValidationError) -> FieldError:
    """The first fault of a request as a sentence that names its field."""
    first = error.errors(include_url=False)[0]
    place = ""
    before: int | str | None = None
    for step in first["loc"]:
        if isinstance(step, int):
            place += f"[{step}]"
        # The step behind an item's number is pydantic's: the kind of item that it was taken for.
        elif not step.startswith("<") and not isinstance(before, int):
            place += f".{step[:SHOWN]}"
        before = step
    place = place.removeprefix(".")
    if first["type"] == "extra_forbidden":
        return FieldError(
            f"{place}: unknown field; it is not dropped silently, so leave it out", place, "unknown_parameter"
        )
    if first["type"] == "missing":
        return FieldError(f"{place}: missing; send it", place, "missing_required_parameter")
    if first["type"].startswith("union_tag"):
        return _kind_error(place, **first["ctx"])
    return FieldError(f"{place}: {first['msg'].removeprefix('Value error, ')}", place or None, WRONG_VALUE)


def _kind_error(place: str, discriminator: str, tag: str = "", expected_tags: str = "") -> FieldError:
    """The error for an object whose kind is given by one of its fields, such as `role`."""
    place += "." + discriminator.strip("'")
    if not expected_tags:
        return FieldError(f"{place}: missing; send it", place, "missing_required_parameter")
    return FieldError(f"{place}: '{tag[:SHOWN]}' is none of {expected_tags}", place, WRONG_VALUE)


def _same(value: Any, neutral: Any) -> bool:
    """Equal, and not as True equals 1."""
    return bool(value == neutral) and isinstance(value, bool) == isinstance(neutral, bool)
