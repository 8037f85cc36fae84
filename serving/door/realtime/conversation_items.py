"""The conversation of a session: its items, and what of them the model is asked with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from af3 import contract
from serving.door.realtime.audio_formats import AudioFormat, Clip, from_base64
from serving.door.realtime.heard_text import HeardText
from serving.door.realtime.realtime_events import SHOWN, Event, EventError, new_id

Role = Literal["system", "user", "assistant"]
PartKind = Literal["input_text", "input_audio", "output_text", "output_audio"]
ROLES: dict[str, tuple[str, ...]] = {
    "system": ("input_text",),
    "user": ("input_text", "input_audio"),
    "assistant": ("output_text", "output_audio"),
}
# Names of the API before it was final, and of text alone.
OLD_KINDS = {"audio": ("input_audio", "output_audio"), "text": ("input_text", "output_text")}
SHORTEST_S = 0.02  # of a clip
MOST_ITEMS = 1_000
MOST_CHARACTERS = 40_000  # of all texts the model is asked with; it reads 16 000 tokens
MOST_MESSAGES = 200  # the server reads 256 of one request


@dataclass(eq=False)
class Part:
    """`text` of a spoken part is its transcript; `clip` the user's sound; `spoken` when which word was said."""

    kind: PartKind
    text: str | None = None
    clip: Clip | None = None
    spoken: HeardText | None = None

    def shown(self) -> Event:
        """Sound itself is not sent back."""
        if self.kind in ("input_text", "output_text"):
            return {"type": self.kind, "text": self.text or ""}
        return {"type": self.kind, "transcript": self.text}


@dataclass(eq=False)
class Item:
    """One message. `heard`: how much of an assistant's text the user has heard; None: all.

    `text_bytes`: of the texts that a client sent.
    """

    id: str
    role: Role
    parts: list[Part] = field(default_factory=list)
    status: Literal["in_progress", "completed", "incomplete"] = "completed"
    heard: str | None = None
    forgotten: bool = False  # its sound was dropped to make room
    text_bytes: int = 0

    @property
    def text(self) -> str:
        if self.heard is not None:
            return self.heard
        return "".join(part.text or "" for part in self.parts if part.kind != "input_audio")

    @property
    def clips(self) -> list[Clip]:
        return [part.clip for part in self.parts if part.clip is not None]

    @property
    def held_bytes(self) -> int:
        """Bytes of the session's memory that the item holds."""
        return self.text_bytes + sum(len(clip.pcm) for clip in self.clips)

    def shown(self) -> Event:
        content = [part.shown() for part in self.parts]
        if self.heard is not None and content:
            content[0]["transcript" if "transcript" in content[0] else "text"] = self.heard
        return {
            "id": self.id,
            "object": "realtime.item",
            "type": "message",
            "status": self.status,
            "role": self.role,
            "content": content,
        }


def user_audio(item_id: str, clip: Clip) -> Item:
    return Item(item_id, "user", [Part("input_audio", clip=clip)])


def from_client(given: Event, audio: AudioFormat) -> Item:
    """Raises EventError for what is no message that the model reads, RequestError for sound that is none."""
    kind = given.get("type", "message")
    if kind != "message":
        raise EventError(
            f"item.type '{str(kind)[:SHOWN]}': only 'message' is served; functions are not called",
            "unsupported",
        )
    role = given.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise EventError(f"item.role must be one of {', '.join(ROLES)}", "invalid_value", "item.role")
    item_id = given.get("id")
    if item_id is not None and not (isinstance(item_id, str) and 0 < len(item_id) <= SHOWN):
        raise EventError(f"item.id is not a string of 1 to {SHOWN} characters", "invalid_value", "item.id")
    content = given.get("content")
    if not isinstance(content, list) or not content or len(content) > contract.MAX_CLIPS:
        raise EventError("item.content is not a list of parts", "invalid_value", "item.content")
    parts = [_part(part, role, f"item.content[{place}]", audio) for place, part in enumerate(content)]
    text_bytes = sum(len((part.text or "").encode()) for part in parts)
    return Item(item_id or new_id("item"), role, parts, text_bytes=text_bytes)  # type: ignore[arg-type]  # of ROLES


def _part(given: Any, role: str, name: str, audio: AudioFormat) -> Part:
    if not isinstance(given, dict):
        raise EventError(f"{name} is not a JSON object", "invalid_type", name)
    kind = given.get("type")
    allowed = ROLES[role]
    kind = str(next((one for one in OLD_KINDS.get(str(kind), ()) if one in allowed), kind))
    if kind not in allowed:
        raise EventError(
            f"{name}.type '{kind[:SHOWN]}': an item of role {role} holds {' or '.join(allowed)}",
            "unsupported",
            f"{name}.type",
        )
    text = given.get("transcript" if kind.endswith("_audio") else "text")
    if text is not None and not isinstance(text, str):
        raise EventError(f"{name}: its text is not a string", "invalid_type", name)
    if kind == "input_audio":
        sound = given.get("audio")
        if not isinstance(sound, str):
            raise EventError(
                f"{name} needs 'audio', base64 of {audio.kind}", "missing_required_parameter", name
            )
        clip = Clip(audio.to_pcm(from_base64(sound, f"{name}.audio")), audio.hz)
        if clip.seconds <= SHORTEST_S:  # it would fail every answer from now on
            raise EventError(
                f"{name}.audio: {1000 * clip.seconds:.0f} ms of sound; more than"
                f" {1000 * SHORTEST_S:.0f} ms can be heard",
                "invalid_value",
                f"{name}.audio",
            )
        return Part("input_audio", text, clip)
    if kind == "input_text" and text is None:
        raise EventError(f"{name} needs 'text'", "missing_required_parameter", f"{name}.text")
    return Part(kind, text or "")  # type: ignore[arg-type]  # one of `allowed`


@dataclass(frozen=True)
class Asked:
    """The question to the model: messages of `{"role", "content"}`, and the WAV files of their audio parts."""

    messages: list[Event]
    clips: list[Clip]


class Conversation:
    """Items in order."""

    def __init__(self, give_back: Callable[[int], None]):
        """give_back: takes the number of bytes that are no longer held."""
        self.id = new_id("conv")
        self._items: list[Item] = []
        self._give_back = give_back

    def find(self, item_id: str) -> Item | None:
        return next((item for item in self._items if item.id == item_id), None)

    def before(self, item: Item) -> str | None:
        """The id of the item before; None for the first, and for one that was deleted."""
        place = self._items.index(item) if item in self._items else 0
        return self._items[place - 1].id if place else None

    def truncate(self, item: Item, end_s: float) -> None:
        """Keep only the words of an answer's first `end_s` seconds, which the user heard."""
        for spoken in (part.spoken for part in item.parts if part.spoken is not None):
            whole = spoken.complete and end_s >= spoken.total_s
            item.heard = None if whole else spoken.until(end_s)

    def add(self, item: Item, previous_id: str | None = None) -> str | None:
        """Behind the item of that id, first for "root", last for None; the id of the item before it.

        Raises EventError for an id that is not there or is there already.
        """
        if self.find(item.id) is not None:
            raise EventError(
                f"item '{item.id}' is there already; give it another id", "invalid_value", "item.id"
            )
        if len(self._items) >= MOST_ITEMS:
            self.delete(self._items[0].id)
        place = len(self._items)
        if previous_id == "root":
            place = 0
        elif previous_id is not None:
            before = self.find(previous_id)
            if before is None:
                raise no_item(previous_id, "previous_item_id")
            place = self._items.index(before) + 1
        self._items.insert(place, item)
        return self._items[place - 1].id if place else None

    def delete(self, item_id: str) -> None:
        """Raises EventError for an item that is not there."""
        item = self.find(item_id)
        if item is None:
            raise no_item(item_id, "item_id")
        self._items.remove(item)
        self._give_back(item.held_bytes)

    def forget(self, needed: int) -> None:
        """Drop the oldest sound, until so many bytes are free or only the last user turn is left."""
        freed = 0
        last = self._last_turn()
        for item in self._items[:last]:
            if freed >= needed:
                return
            count = sum(len(clip.pcm) for clip in item.clips)
            if count:
                item.forgotten = True
                for part in item.parts:
                    part.clip = None
                freed += count
                self._give_back(count)

    def asked(self, instructions: str, most_s: float, most_items: int | None = None) -> Asked:
        """System texts first, then the newest items that one request may hold.

        An item is left out with all that are older when its sound was forgotten, or when with it there would be more
        than `most_s` of sound, MOST_CHARACTERS of text, MOST_MESSAGES messages, or `most_items`. The last turn of
        the user always stands.
        """
        return asked(self._items, instructions, most_s, most_items)

    def _last_turn(self) -> int:
        return _last_turn(self._items)


def asked(items: Sequence[Item], instructions: str, most_s: float, most_items: int | None = None) -> Asked:
    system = [instructions] if instructions else []
    system += [item.text for item in items if item.role == "system"]
    turns = [item for item in items if item.role != "system" and (item.text or item.clips or item.forgotten)]
    turns = turns[_oldest(turns, most_s, most_items) :]
    while turns and turns[0].role == "assistant":
        turns = turns[1:]  # an answer without its question
    messages: list[Event] = [{"role": "system", "content": "\n\n".join(system)}] if system else []
    clips: list[Clip] = []
    for item in turns:
        messages.append({"role": item.role, "content": _content(item)})
        clips += item.clips
    return Asked(messages, clips)


def _oldest(turns: Sequence[Item], most_s: float, most_items: int | None) -> int:
    """The place of the oldest turn that is asked with."""
    last = _last_turn(turns)
    most = MOST_MESSAGES if most_items is None else most_items
    seconds, characters = 0.0, 0
    for place in range(len(turns) - 1, -1, -1):
        item = turns[place]
        seconds += sum(clip.seconds for clip in item.clips)
        characters += len(item.text)
        full = seconds > most_s or characters > MOST_CHARACTERS or len(turns) - place > most or item.forgotten
        if full and place < last:
            return place + 1
    return 0


def _last_turn(items: Sequence[Item]) -> int:
    """The place of the first of the user's items that nobody has answered."""
    place = len(items)
    while place and items[place - 1].role != "assistant":
        place -= 1
    return place


def _content(item: Item) -> str | list[Event]:
    if item.role == "assistant":
        return item.text
    content: list[Event] = []
    for part in item.parts:
        if part.clip is not None:
            content.append({"type": "audio"})
        elif part.kind == "input_text" and part.text:
            content.append({"type": "text", "text": part.text})
    return content


def no_item(item_id: str, param: str) -> EventError:
    return EventError(f"there is no item '{item_id[:SHOWN]}' in the conversation", "item_not_found", param)
