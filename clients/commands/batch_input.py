"""The questions of a batch: a folder of clips with one prompt, or a JSONL file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from ..request import Message, Parameters

# Files in folders that are no sound. Any other file is sent: the server knows formats by their content.
NO_SOUND = frozenset(
    ".txt .md .rst .pdf .doc .docx .rtf .html .htm .xml .json .jsonl .ndjson .csv .tsv .parquet .xls .xlsx .yaml"
    " .yml .toml .ini .cfg .log .lrc .srt .vtt .textgrid .cue .m3u .m3u8 .pls .nfo .png .jpg .jpeg .gif .webp .svg"
    " .bmp .tif .tiff .ico .heic .zip .tar .gz .bz2 .xz .7z .rar .py .pyc .ipynb .sh .js .ts .c .h .cpp .rs .go"
    " .java .exe .dll .so .npy .npz .pt .pth .safetensors .onnx .pkl .db .sqlite .bak .tmp .part .lock".split()
)
SHOWN = 5  # names of skipped files
OWN_KEYS = ("id", "audio", "prompt", "messages")

Id: TypeAlias = str | int


class BadInput(Exception):
    """The input cannot be understood; nothing has been asked yet. One line for each problem."""


@dataclass(frozen=True)
class Item:
    """One question. Exactly one of `prompt` and `messages` is given."""

    id: Id
    audio: tuple[Path, ...]
    prompt: str | None
    messages: Sequence[Message] | None
    parameters: Parameters

    @property
    def asked(self) -> str:
        """A fingerprint of the question, so that an answer to another is not taken for its own."""
        text = json.dumps([self.prompt, self.messages], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Questions:
    """`items` in order; `skipped`: files of the folder that were left out."""

    items: list[Item]
    skipped: tuple[str, ...] = ()

    def skipped_files(self) -> str:
        """How many were left out, with some of their names; empty when none was."""
        if not self.skipped:
            return ""
        names = ", ".join(self.skipped[:SHOWN]) + (", …" if len(self.skipped) > SHOWN else "")
        return f"{len(self.skipped)} files are hidden or no sound and were skipped: {names}"


def read_items(source: Path, prompt: str | None, parameters: Parameters) -> Questions:
    """The items of a folder or a JSONL file.

    `prompt` and `parameters` hold for every line that has none of its own. Raises BadInput with every
    problem at once: the time to mend a file is before the hours it runs, not after.
    """
    if source.is_dir():
        return _folder_items(source, prompt, parameters)
    if source.is_file():
        return Questions(_jsonl_items(source, prompt, parameters))
    raise BadInput(f"{source}: no such folder or file")


def _folder_items(folder: Path, prompt: str | None, parameters: Parameters) -> Questions:
    if prompt is None:
        raise BadInput(f"{folder} is a folder: say what to ask about each clip with --prompt")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    items, skipped = [], []
    for path in files:
        name = path.relative_to(folder)
        if path.suffix.lower() in NO_SOUND or any(part.startswith(".") for part in name.parts):
            skipped.append(name.as_posix())
        else:
            items.append(Item(name.as_posix(), (path,), prompt, None, parameters))
    found = Questions(items, tuple(skipped))
    if not items:
        raise BadInput(f"{folder}: no sound files in it. {found.skipped_files()}".rstrip(". "))
    return found


def _jsonl_items(file: Path, prompt: str | None, parameters: Parameters) -> list[Item]:
    items: list[Item] = []
    problems: list[str] = []
    seen: dict[Id, int] = {}
    for number, line in _numbered_lines(file):
        try:
            item = _item(line, file.parent, prompt, parameters)
        except BadInput as error:
            problems.append(f"{file}:{number}: {error}")
            continue
        if item.id in seen:
            problems.append(f"{file}:{number}: id {item.id!r} is on line {seen[item.id]} too")
        seen.setdefault(item.id, number)
        items.append(item)
    if problems:
        raise BadInput("\n".join(problems))
    return items


def _numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: no UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}") from None
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _item(line: str, folder: Path, prompt: str | None, parameters: Parameters) -> Item:
    try:
        fields = json.loads(line)
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadInput(
            "half of a surrogate pair among its characters, which no UTF-8 file can hold"
        ) from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # also a number of thousands of digits, thousands of brackets
        raise BadInput(f"not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise BadInput('not a JSON object such as {"id": 1, "audio": ["a.wav"], "prompt": "…"}')
    _refuse_bad_fields(fields)
    if "messages" not in fields:
        prompt = fields.get("prompt", prompt)
    elif "prompt" in fields:
        raise BadInput('both "prompt" and "messages"; keep one')
    else:
        prompt = None
    if prompt is None and "messages" not in fields:
        raise BadInput('neither "prompt" nor "messages", and no --prompt for all lines')
    own = {name: value for name, value in fields.items() if name not in OWN_KEYS}
    return Item(
        fields["id"],
        tuple(folder / path for path in fields.get("audio", [])),
        prompt,
        fields.get("messages"),
        cast(Parameters, {**parameters, **own}),
    )


def _refuse_bad_fields(fields: Mapping[str, Any]) -> None:
    unknown = fields.keys() - {*OWN_KEYS, *Parameters.__annotations__}
    if unknown:
        known = ", ".join((*OWN_KEYS, *Parameters.__annotations__))
        raise BadInput(f"unknown {', '.join(sorted(unknown))}; known are {known}")
    if not isinstance(fields.get("id"), (str, int)) or isinstance(fields["id"], bool):
        raise BadInput('no "id" that is a string or a whole number')
    audio = fields.get("audio", [])
    if not (isinstance(audio, list) and all(isinstance(path, str) for path in audio)):
        raise BadInput('"audio" is not a list of paths')
    if not isinstance(fields.get("prompt", ""), str):
        raise BadInput('"prompt" is not a string')
    if not isinstance(fields.get("messages", []), list):
        raise BadInput('"messages" is not a list')
